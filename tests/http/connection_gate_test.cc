#include "server/http/connection_gate.h"

#include <climits>

#include "tests/catch.h"

namespace modu::testing {

TEST_CASE("the gate counts connections in all and by address") {
  http::ConnectionGate gate(3, 2, INT_MAX);
  CHECK(gate.Enter("a", 10));
  CHECK(gate.Enter("a", 11));
  CHECK_FALSE(gate.Enter("a", 12));  // its share
  CHECK(gate.Enter("b", 12));
  CHECK_FALSE(gate.Enter("c", 13));  // all
  gate.Leave("a");
  CHECK(gate.Enter("c", 13));
  gate.Leave("nobody");
  CHECK_FALSE(gate.Enter("d", 14));
}

TEST_CASE("the gate keeps the last descriptors free, and counts nobody whom it refused for them") {
  http::ConnectionGate gate(1, 1, 20);
  CHECK_FALSE(gate.Enter("a", 20));
  CHECK_FALSE(gate.Enter("a", 21));
  CHECK(gate.Enter("a", 19));
}

}  // namespace modu::testing
