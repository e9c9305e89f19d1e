// How fast the bytes of an answer are taken, for who wants to see what a slow reader sees.
#pragma once
#include <chrono>

namespace modu::client {

struct ReadPace {
  int receive_buffer_bytes = 0;        // in the kernel; 0: the system's
  std::chrono::milliseconds pause{0};  // before each read of the socket, of at most 16 KiB
};

}  // namespace modu::client
