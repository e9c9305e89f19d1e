// The function table of matrix product kernels, one a set of instructions. A kernel computes one
// strip of 32 outputs for up to kTileRows rows into a tile; an epilogue takes the tile on.
//   int8:  whole numbers over chunks of K (int8_join-inl.h), chunks added in rising order: the same
//          bits on all sets
//   f32:   c = fma(a, w, c), an input, in one chain over rising K, whatever the row count: the same
//          bits on all sets, but for bf16 products on AVX512-BF16 (linear_bf16_dots-inl.h) and AMX
//          (linear_bf16_tiles-inl.h), each of which agrees with itself alone
// Rows do not depend on each other.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu/coarse_kernel.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/prepared.h"
#include "kernels/cpu/tile_config.h"
#include "kernels/ops.h"

namespace modu::kernels::cpu {

/// Rows of a tile at most, and of a block where kernels want no more (Int8Kernels::block_rows).
constexpr int kTileRows = 128, kBlockRows = 64;

/// One KV head's keys and values in a block (kv_cache.h) are a multiple of it.
constexpr int64_t kFetchPiece = 2048;

/// Stretches of kFetchPiece bytes: where each begins, counted from `from`.
struct FetchPieces {
  const std::byte* from = nullptr;
  std::span<const int64_t> at = {};
};

/// What the worker reads next, as far as one can say; nothing, or anything: `bytes` of weights,
/// then pieces.
struct Ahead {
  const std::byte* data = nullptr;
  int64_t bytes = 0;
  FetchPieces pieces = {};
};

/// rows: 1 to kTileRows. tile: [rows][32] f32, 64-byte aligned. in: row 0 of a Prepared of the
/// table's kind.
/// ahead: fetched to L2 on the way.
using Int8StripFn = void (*)(const std::byte* strip, const PreparedLayout& layout,
                             const std::byte* in, int rows, const Ahead& ahead, float* tile);

/// The same over kF32 and kBf16 activations, or (always rounding) kBf16Pairs; weights are decoded
/// exactly, then rounded to bf16 if asked.
using FloatStripFn = void (*)(const Strip& strip, const PreparedLayout& layout, bool round_to_bf16,
                              const std::byte* in, int rows, float* tile);

/// out[row][0, columns) (+)= tile[row] * scales + bias; scales and bias may be null.
struct StoreArgs {
  const float* tile;
  int rows, columns;
  const float* scales;
  const float* bias;
  bool accumulate;
  float* out;
  int64_t out_stride;
};
using StoreFn = void (*)(const StoreArgs& args);

/// gate[row] = act(gate * gate_scales) * (up * up_scales), 32 wide, in place; scales may be null.
struct GateArgs {
  float* gate;
  const float* up;
  int rows;
  const float* gate_scales;
  const float* up_scales;
  Activation activation;
};
using GateFn = void (*)(const GateArgs& args);

/// Joins each row's largest product of a tile, and the lowest id that has it, to those of tiles
/// before: [rows], -infinity at first. ids of columns: first_id, first_id + 1, ..
/// False where a product is not finite.
struct LargestArgs {
  const float* tile;
  int rows, columns;
  const float* scales;  // or null
  int32_t first_id;
  float* values;
  int32_t* ids;
};
using LargestFn = bool (*)(const LargestArgs& args);

/// bf16 products on tiles are made of two tiles of 16 outputs at once and of passes of up to 32
/// rows, whose sums come out with the rows of 16 side by side:
/// sums: [1 or 2 tiles of 16 rows][2 tiles of outputs][16 outputs][16 rows], 64-byte aligned.
constexpr int kPassRows = 32;
constexpr int kPassSums = kPassRows * kStrip;
/// Groups whose A tiles are multiplied with all rows before the next are decoded: they stay in L1,
/// through which activations pass by loads that leave little behind. 40 of its 48 KiB where that is
/// all of K; less where sums pass through it too (16 groups take 0.91 of what 20 do;
/// benchmarks/results/2026-12-01-amx-wide.md).
constexpr int64_t kSingleChunkGroups = 20, kChunkGroups = 18;
constexpr int64_t kTileScratchBytes = kSingleChunkGroups * 2 * kTileBytes;  // decoded weights

/// Columns [16 half, 16 half + 16) of a strip.
struct OutputTile {
  const Strip* strip;
  int half;
};

/// What becomes of the sums of the `rows` rows of a pass that begins with row `row` of the call's.
struct FinishPass {
  void (*call)(const void* context, int row, int rows, const float* sums);
  const void* context;
  void operator()(int row, int rows, const float* sums) const { call(context, row, rows, sums); }
};

/// Where what becomes of products is to be written: of every `rows` rows (1 or 16) `lines` cache
/// lines, `stride` bytes after those of the rows before.
struct TileOutput {
  const std::byte* at = nullptr;  // null: not known
  int64_t stride = 0;
  int rows = 1, lines = 0;
};

/// What is read soon: `pieces` pieces of `lines` cache lines, `stride` bytes apart.
struct LinesAhead {
  const std::byte* at = nullptr;
  int64_t stride = 0;
  int64_t pieces = 0, lines = 0;
};

/// Products of some groups. Those of a pass of rows at most are made of all groups at once.
struct TileProductsArgs {
  OutputTile outputs[2];         // of kByOutput strips of one number of groups
  const PreparedLayout* layout;  // kBf16Tiles
  const std::byte* in;           // rows of it, of which the first begins a block
  int rows;
  int64_t first_group, last_group;  // of all; behind the first ones, sums are added to
  TileOutput out;                   // fetched to L2 on the way, as is what is read ahead, but for
  LinesAhead ahead[2];              // few rows, whose strips are taken to follow each other
  std::byte* scratch;               // kTileScratchBytes, 64-byte aligned
  float* sums;                      // of all rows, or, if they are not kept, of a pass
  bool keep_sums;                   // needed where groups are left
  FinishPass finish;                // each pass, by rising rows, once its last group is done
};

/// Rows of a gated linear's products, for a consumer that reads kBf16Tiles.
struct TileGateArgs {
  const float* gate;  // sums
  const float* up;
  int rows;
  int width;                 // columns to write, an even number
  int columns;               // of them those that exist; zeros are written for the others
  const float* gate_scales;  // [columns] or null, as the biases
  const float* up_scales;
  const float* gate_bias;
  const float* up_bias;
  Activation activation;
  std::byte* out;       // the first row's block, at the first column
  int64_t block_bytes;  // of out
};

/// A thread calls begin, then the others any number of times, then end.
struct Bf16TileKernels {
  void (*begin)();
  void (*end)();
  void (*products)(const TileProductsArgs& args);
  /// tile[rows][32] of one tile of up to 16 rows.
  void (*to_rows)(const float* sums, int rows, float* tile);
  /// out[rows][32] (+)= one tile of up to 16 rows: what f32.store makes of to_rows' tile where a
  /// strip has 32 columns, no scales and no bias.
  void (*store_rows)(const float* sums, int rows, bool accumulate, float* out, int64_t stride);
  void (*gate)(const TileGateArgs& args);
  /// Up to 16 rows of f32 values, `stride` apart, to groups [first, last) of a kBf16Tiles block,
  /// zeros past layout.cols. A line of a block is of all its rows: workers that write rows one by
  /// one would take it from each other.
  void (*prepare)(const PreparedLayout& layout, std::byte* block, int64_t first, int64_t last,
                  int rows, const float* values, int64_t stride);
};

struct Int8Kernels {
  Int8StripFn strip[5];         // by StripFormat
  int block_rows = kBlockRows;  // of nibbles: what takes least time (row_blocks.h)
};

struct FloatKernels {
  FloatStripFn strip;
  StoreFn store;
  GateFn gate;
  LargestFn largest;
  PrepareFn prepare;
  PrepareRowsFn prepare_rows;
  FinishRowsFn finish_rows;
};

const Int8Kernels& Int8KernelsAvx2();
const Int8Kernels& Int8KernelsAvx512();
const Int8Kernels& Int8WinogradAvx512();         // half of the products for many rows
const Int8Kernels& Int8WinogradAnyRowsAvx512();  // for any number of rows: for tests
const FloatKernels& FloatKernelsAvx2();
const FloatKernels& FloatKernelsAvx512();
FloatStripFn Bf16DotsAvx512Bf16();
const Bf16TileKernels& Bf16TileKernelsAmx();

/// A worker's share of a weight of nibbles from so many bytes on is read by one row faster if what
/// is ahead in it is not fetched meanwhile: the processor's own prefetching keeps up, and is held
/// up by ours (steps of one row 0.98 where both cores share 35 GB/s, 0.91 of one worker alone, 0.83
/// of a model of 1.1 B at 65 GB/s). With shorter shares it is the other way round, one row of 8-bit
/// codes took 1.3, four rows of nibbles gained nothing
/// (benchmarks/results/2026-11-29-zen4-winograd.md, 2026-11-30-zen4-one-row.md). On an Emerald
/// Rapids such a step takes 1.25 of the time if they are not fetched (2026-11-30-amx-one-row.md);
/// elsewhere nothing is measured.
constexpr int64_t kLongShareZen4 = 192 * 1024;

struct LinearKernels {
  Int8Kernels int8;
  FloatKernels f32;
  Bf16TileKernels bf16_tiles;        // null below kAmx
  FloatStripFn bf16_dots = nullptr;  // over kBf16Pairs, where there are no tiles; null elsewhere
  CoarseStripFn coarse = nullptr;    // null: argmax computes all products
  /// Bytes of a worker's share of nibbles from which one row leaves fetching to the processor
  /// (kLongShareZen4); by default none: all is fetched ahead.
  int64_t long_share = INT64_MAX;

  /// What bf16 products read.
  PreparedKind bf16_activations() const {
    if (bf16_tiles.products != nullptr) return PreparedKind::kBf16Tiles;
    return bf16_dots != nullptr ? PreparedKind::kBf16Pairs : PreparedKind::kBf16;
  }
};

}  // namespace modu::kernels::cpu
