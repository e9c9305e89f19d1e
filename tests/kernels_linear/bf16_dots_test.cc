// bf16 products by dot products of pairs: the bits of one chain per output, in plain code over
// weights decoded one by one, natively and over emulated intrinsics.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/cpu/block_codes.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/scalar_tiles.h"
#include "kernels/cpu/weight_arena.h"
#include "kernels/cpu/worker_pool.h"
#include "kernels/float_formats.h"
#include "tests/catch.h"
#include "tests/kernels_linear/aligned_bytes.h"
#include "tests/kernels_linear/linear_emulated.h"
#include "tests/kernels_linear/random_weights.h"

namespace modu::kernels::cpu {
namespace {

using tests::AlignedBytes;
using tests::kAllTypes;
using tests::Random;
using tests::RandomMatrix;

struct Candidate {
  std::string name;
  FloatStripFn strip;
};

std::vector<Candidate> Candidates() {
  std::vector<Candidate> all;
#if defined(MODU_HAVE_EMULATED)
  all.push_back({"emulated", Bf16DotsEmulated()});
#endif
  const std::string missing = MissingFor(Isa::kAvx512Bf16, ReadMachine());
  if (missing.empty()) all.push_back({"avx512bf16", Bf16DotsAvx512Bf16()});
  if (!missing.empty()) WARN("skipped natively: " << missing);
  return all;
}

/// [rows][32]: a chain for each output.
std::vector<float> Chains(const Strip& strip, const PreparedLayout& layout, const std::byte* in,
                          int rows) {
  std::vector<float> out(static_cast<size_t>(rows * kStrip), 0.0f);
  for (int n = 0; n < kStrip; ++n) {
    const std::byte* group = strip.data;
    for (int64_t k = 0; k < layout.cols; k += kGroup, group += strip.group_bytes) {
      const auto inputs = static_cast<int>(std::min<int64_t>(kGroup, layout.cols - k));
      float weights[kGroup];
      DecodeColumn(strip.format, strip.order, group, group + CodeBytes(strip.format), n, inputs,
                   weights);
      for (int r = 0; r < rows; ++r) {
        float& c = out[static_cast<size_t>(r * kStrip + n)];
        for (int i = 0; i < inputs; i += 2) {
          uint32_t pair;
          std::memcpy(&pair, in + r * layout.row_bytes + 2 * (k + i), sizeof(pair));
          const auto even = FloatToBf16(weights[i]), odd = FloatToBf16(weights[i + 1]);
          c = DotFlushed(uint32_t{odd} << 16 | even, pair, c);
        }
      }
    }
  }
  return out;
}

}  // namespace

TEST_CASE("bf16 dot products are one chain an output, in every format, at any number of rows") {
  WorkerPool pool(1);
  WeightArena arena(int64_t{1} << 30);
  constexpr int kRows = 38;  // three blocks and a bit
  for (const DType dtype : kAllTypes) {
    const bool blocks = TraitsOf(dtype).block_elements > 1;
    for (const int64_t k : {blocks ? int64_t{256} : int64_t{46}, int64_t{512}}) {
      const RandomMatrix matrix(dtype, 33, k, 8);
      const WeightSource parts[] = {matrix.source()};
      const auto weight = CpuWeight::Create(parts, WeightUse::kLinear, Numerics::kBf16, pool, arena,
                                            PreparedKind::kBf16Pairs)
                              .value();
      const PreparedLayout& layout = weight->prepared();
      REQUIRE(layout.kind == PreparedKind::kBf16Pairs);
      AlignedBytes in(static_cast<size_t>(layout.Bytes(kRows)));
      Random random(9);
      std::vector<float> row(static_cast<size_t>(k));
      for (int r = 0; r < kRows; ++r) {
        for (float& x : row) x = random.Gaussian();
        if (r == 3) std::fill(row.begin(), row.end(), 1e-39f);  // counts as zero
        FloatKernelsAvx2().prepare(layout, in.data() + r * layout.row_bytes, 0, k, row.data());
      }
      for (const Strip& strip : weight->strips()) {
        const std::vector<float> want = Chains(strip, layout, in.data(), kRows);
        for (const Candidate& candidate : Candidates()) {
          for (const int rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 25, kRows}) {
            INFO(candidate.name << " " << TraitsOf(dtype).name << " k " << k << " rows " << rows);
            AlignedBytes got(sizeof(float) * kTileRows * kStrip);
            candidate.strip(strip, layout, true, in.data(), rows, got.floats());
            const size_t bytes = sizeof(float) * static_cast<size_t>(rows * kStrip);
            REQUIRE(std::memcmp(got.data(), want.data(), bytes) == 0);
          }
        }
      }
    }
  }
}

TEST_CASE("every finite code of E4M3 has its value in bf16 dot products") {
  WorkerPool pool(1);
  WeightArena arena(int64_t{1} << 30);
  constexpr int64_t kInputs = 256;
  std::vector<std::byte> codes(kStrip * kInputs);
  for (int n = 0; n < kStrip; ++n) {  // another code for each output at an input
    for (int k = 0; k < kInputs; ++k) {
      const int code = (k + 8 * n) % 256;
      codes[static_cast<size_t>(n * kInputs + k)] =
          static_cast<std::byte>(code % 128 == 127 ? 0 : code);  // 127: NaN
    }
  }
  const WeightSource parts[] = {
      {.dtype = DType::kF8E4M3, .rows = kStrip, .cols = kInputs, .data = codes.data()}};
  const auto weight = CpuWeight::Create(parts, WeightUse::kLinear, Numerics::kBf16, pool, arena,
                                        PreparedKind::kBf16Pairs)
                          .value();
  const PreparedLayout& layout = weight->prepared();
  for (const Candidate& candidate : Candidates()) {
    for (int k = 0; k < kInputs; ++k) {
      std::vector<float> row(kInputs, 0.0f);
      row[static_cast<size_t>(k)] = 1;
      AlignedBytes in(static_cast<size_t>(layout.row_bytes)), got(sizeof(float) * kStrip);
      FloatKernelsAvx2().prepare(layout, in.data(), 0, kInputs, row.data());
      candidate.strip(weight->strips()[0], layout, true, in.data(), 1, got.floats());
      for (int n = 0; n < kStrip; ++n) {
        const auto code = std::to_integer<uint8_t>(codes[static_cast<size_t>(n * kInputs + k)]);
        INFO(candidate.name << " code " << int{code});
        REQUIRE(got.floats()[n] == F8E4M3ToFloat(code));
      }
    }
  }
}

TEST_CASE("bf16 activations in pairs are the nearest bf16, written whole or in pieces") {
  const PreparedLayout layout = MakePreparedLayout(PreparedKind::kBf16Pairs, 74);
  Random random(10);
  std::vector<float> row(74);
  for (float& x : row) x = random.Gaussian() * 100;
  AlignedBytes whole(static_cast<size_t>(layout.row_bytes)),
      pieces(static_cast<size_t>(layout.row_bytes));
  FloatKernelsAvx2().prepare(layout, whole.data(), 0, 74, row.data());
  FloatKernelsAvx2().prepare(layout, pieces.data(), 0, 32, row.data());
  FloatKernelsAvx2().prepare(layout, pieces.data(), 32, 42, row.data() + 32);
  for (size_t i = 0; i < row.size(); ++i) {
    uint16_t bits, piece;
    std::memcpy(&bits, whole.data() + 2 * i, sizeof(bits));
    std::memcpy(&piece, pieces.data() + 2 * i, sizeof(piece));
    CHECK(bits == FloatToBf16(row[i]));
    CHECK(piece == bits);
  }
}

}  // namespace modu::kernels::cpu
