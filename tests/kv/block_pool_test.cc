#include "engine/kv/block_pool.h"

#include <map>
#include <random>

#include "engine/kv/block_table.h"
#include "tests/catch.h"

namespace modu::engine {
namespace {

TEST_CASE("A dropped handle gives its block back; shared blocks wait for the last") {
  BlockPool pool(3);
  {
    BlockHandle a = pool.Allocate(1);
    BlockHandle b = pool.Share(a.id());
    CHECK(pool.ref_count(a.id()) == 2);
    a.Reset();
    CHECK(pool.num_held() == 1);
    BlockHandle c = std::move(b);
    CHECK(!b);  // NOLINT: moved from, on purpose
    CHECK(pool.num_held() == 1);
    CHECK(pool.SelfCheck() == "");
  }
  CHECK(pool.num_free() == 3);
  CHECK(pool.charge(1) == 0);
  std::vector<BlockHandle> all;
  for (int i = 0; i < 3; ++i) all.push_back(pool.Allocate(2));
  CHECK(!pool.Allocate(2));
  CHECK(pool.charge(2) == 3);
}

TEST_CASE(
    "Kept blocks turn idle, oldest first, and are taken from the owner with the largest charge") {
  BlockPool pool(6);
  std::vector<BlockId> ids;
  for (int i = 0; i < 6; ++i) {
    BlockHandle handle = pool.Allocate(i < 2 ? 1 : 2);
    ids.push_back(handle.id());
    pool.Keep(handle.id());
  }
  CHECK(pool.num_free() == 0);
  CHECK(pool.num_idle() == 6);
  CHECK(pool.OldestIdle() == ids[2]);
  {
    BlockHandle used = pool.Share(ids[2]);
  }  // used again: now the newest
  CHECK(pool.OldestIdle() == ids[3]);
  pool.Discard(ids[3]);
  pool.Discard(ids[4]);
  pool.Discard(ids[5]);
  CHECK(pool.charge(2) == 1);
  CHECK(pool.OldestIdle() == ids[0]);
  pool.Discard(ids[0]);
  CHECK(pool.charge(1) == 1);
  CHECK(pool.OldestIdle() == ids[1]);  // equal charges: the lower owner
  CHECK(pool.num_free() == 4);
  CHECK(pool.SelfCheck() == "");
}

TEST_CASE("A held block keeps counting against its owner, so its idle ones go first") {
  BlockPool pool(5);
  std::vector<BlockHandle> held;
  for (int i = 0; i < 3; ++i) held.push_back(pool.Allocate(7));
  BlockHandle a = pool.Allocate(8), b = pool.Allocate(7);
  pool.Keep(a.id());
  pool.Keep(b.id());
  const BlockId wanted = b.id();
  a.Reset();
  b.Reset();
  CHECK(pool.OldestIdle() == wanted);
}

TEST_CASE("Random use of a pool agrees with a plain model of it") {
  std::mt19937 random(5);
  BlockPool pool(20);
  std::map<BlockId, int> refs;
  std::map<BlockId, bool> kept;
  std::vector<BlockHandle> handles;
  for (int step = 0; step < 20000; ++step) {
    const auto pick = [&](size_t n) { return static_cast<size_t>(random() % n); };
    switch (random() % 6) {
      case 0:
      case 1:
        if (BlockHandle handle = pool.Allocate(random() % 3)) {
          REQUIRE(refs[handle.id()] == 0);
          REQUIRE(!kept[handle.id()]);
          refs[handle.id()] = 1;
          handles.push_back(std::move(handle));
        } else {
          REQUIRE(pool.num_free() == 0);
        }
        break;
      case 2:
        if (!handles.empty()) {
          const BlockId id = handles[pick(handles.size())].id();
          handles.push_back(pool.Share(id));
          ++refs[id];
        }
        break;
      case 3:
        if (!handles.empty()) {
          std::swap(handles[pick(handles.size())], handles.back());
          --refs[handles.back().id()];
          handles.pop_back();
        }
        break;
      case 4:
        if (!handles.empty()) {
          const BlockId id = handles[pick(handles.size())].id();
          pool.Keep(id);
          kept[id] = true;
        }
        break;
      default:
        if (const BlockId id = pool.OldestIdle(); id != kNoBlock) {
          REQUIRE(refs[id] == 0);
          REQUIRE(kept[id]);
          if (random() % 2 == 0) {
            pool.Discard(id);
            kept[id] = false;
          } else {
            handles.push_back(pool.Share(id));
            ++refs[id];
          }
        }
    }
    int held = 0, idle = 0;
    for (BlockId id = 0; id < 20; ++id) {
      REQUIRE(pool.ref_count(id) == refs[id]);
      if (refs[id] > 0) ++held;
      if (refs[id] == 0 && kept[id]) ++idle;
    }
    REQUIRE(pool.num_held() == held);
    REQUIRE(pool.num_idle() == idle);
    if (step % 50 == 0) REQUIRE(pool.SelfCheck() == "");
  }
}

TEST_CASE("A block table gives back its front, and all of it last block first") {
  BlockPool pool(8);
  BlockTable table;
  std::vector<BlockId> ids;
  for (int i = 0; i < 5; ++i) {
    table.Append(pool.Allocate(0));
    ids.push_back(table.id(i));
    pool.Keep(table.id(i));
  }
  table.DropBefore(2);
  table.DropBefore(1);
  CHECK(table.num_held() == 3);
  CHECK(table.size() == 5);
  CHECK(table.id(1) == kNoBlock);
  CHECK(table.ids()[1] == 0);
  CHECK(table.ids()[4] == ids[4]);
  pool.Discard(ids[0]);
  pool.Discard(ids[1]);
  table.Clear();
  for (int i = 4; i >= 2; --i) {
    CHECK(pool.OldestIdle() == ids[i]);
    pool.Discard(ids[i]);
  }
}

}  // namespace
}  // namespace modu::engine
