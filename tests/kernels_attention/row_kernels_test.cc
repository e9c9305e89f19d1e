// What row kernels leave of a row, and write into the cache, has the same bytes on every
// instruction set. The AVX-512 form runs natively where the machine has it, and over emulated
// intrinsics where SIMDe is installed.
#include "kernels/cpu/row_kernels.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/kv_cache.h"
#include "tests/catch.h"
#include "tests/kernels_attention/attention_emulated.h"

namespace modu::kernels::cpu {
namespace {

struct Candidate {
  const char* name;
  const RowKernels* kernels;
};

std::vector<Candidate> Candidates() {
  std::vector<Candidate> sets;
  if (DetectIsa() >= Isa::kAvx512) sets.push_back({"avx512", &kRowKernelsAvx512});
#if defined(MODU_HAVE_EMULATED)
  sets.push_back({"emulated avx512", &kRowKernelsEmulated});
#endif
  if (sets.empty()) WARN("skipped: neither AVX-512 nor SIMDe here");
  return sets;
}

/// Rows of a whole block through one set's kernels: what is left of them, and the block.
struct Written {
  std::vector<float> rows;
  std::vector<std::byte> block;
};

Written Write(const RowKernels& kernels, const KvLayout& layout, std::vector<float> rows,
              const std::vector<float>& cos_sin) {
  CpuKvCache cache(layout, 1);
  const KvGeometry& geometry = cache.geometry();
  const int width = 4 * layout.num_kv_heads * layout.head_dim;
  for (int t = 0; t < kKvBlockTokens; ++t) {
    QkvRow r{};
    r.row = rows.data() + t * width;
    r.num_heads = 2 * layout.num_kv_heads;
    r.num_kv_heads = layout.num_kv_heads;
    r.head_dim = layout.head_dim;
    r.cos_sin = cos_sin.data();
    r.rotary_dim = static_cast<int>(cos_sin.size());
    r.q_scale = 0.3f;
    r.k = cache.Head(0, 0);
    r.head_bytes = geometry.head_bytes;
    r.half_bytes = geometry.half_bytes;
    r.v_offset = geometry.v_offset;
    r.offset = t;
    kernels.Qkv(layout.dtype)(r);
  }
  const std::byte* const block = cache.Head(0, 0);
  return {std::move(rows), {block, block + geometry.block_stride}};
}

}  // namespace

TEST_CASE("rows and their places in the cache have the same bytes on every instruction set") {
  if (DetectIsa() < Isa::kAvx2) return;
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (const DType dtype : {DType::kBF16, DType::kF32, DType::kI8, DType::kF8E4M3}) {
    for (const int head_dim : {16, 20, 32, 36, 64, 80, 96, 128, 192, 256}) {
      const KvLayout layout{1, 2, head_dim, kKvBlockTokens, dtype};
      std::vector<float> cos_sin(static_cast<size_t>(head_dim / 4 * 2));
      for (float& x : cos_sin) x = normal(random);
      const int width = 8 * head_dim;
      std::vector<float> rows(static_cast<size_t>(kKvBlockTokens * width));
      for (float& x : rows) x = normal(random);
      const auto token = [&](int t) { return rows.begin() + t * width; };
      std::fill(token(3), token(4), 0.0f);
      token(9)[4 * head_dim + 5] = std::numeric_limits<float>::quiet_NaN();  // k
      token(12)[7 * head_dim + 2] = std::numeric_limits<float>::infinity();  // v
      for (auto x = token(17); x != token(18); ++x) *x *= 1e-38f;
      const Written want = Write(kRowKernelsAvx2, layout, rows, cos_sin);
      for (const Candidate& candidate : Candidates()) {
        INFO(candidate.name << " " << TraitsOf(dtype).name << " head_dim " << head_dim);
        const Written got = Write(*candidate.kernels, layout, rows, cos_sin);
        REQUIRE(got.block == want.block);
        REQUIRE(std::memcmp(got.rows.data(), want.rows.data(), rows.size() * sizeof(float)) == 0);
      }
    }
  }
}

}  // namespace modu::kernels::cpu
