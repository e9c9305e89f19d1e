// The 64 bytes that LDTILECFG reads (Intel SDM volume 2, LDTILECFG, palette 1): eight tiles of at
// most 16 rows of at most 64 bytes. A tile multiplication C += A x B needs rows(C) == rows(A),
// colsb(C) == colsb(B) and colsb(A) / 4 == rows(B): a row of B holds one dword a column, of four
// int8 or two bf16 that follow each other in K.
#pragma once
#include <cstdint>

namespace modu::kernels::cpu {

constexpr int kTileRegisters = 8;
constexpr int kTileMaxRows = 16;
constexpr int kTileRowBytes = 64;
constexpr int64_t kTileBytes = int64_t{kTileMaxRows} * kTileRowBytes;  // of a whole tile

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t colsb[16] = {};  // bytes a row; entries from 8 on are reserved
  uint8_t rows[16] = {};

  /// A tile of 0 rows is not configured and must not be used.
  void Set(int tile, int row_count, int row_bytes) {
    rows[tile] = static_cast<uint8_t>(row_count);
    colsb[tile] = static_cast<uint16_t>(row_count == 0 ? 0 : row_bytes);
  }
};
static_assert(sizeof(TileConfig) == 64);

}  // namespace modu::kernels::cpu
