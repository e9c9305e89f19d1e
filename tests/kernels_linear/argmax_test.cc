// The largest product of a row: the id is that of linear's largest, whether all products are
// computed or those that the upper bits of a head's codes leave; and no product is above what its
// strip's coarse ones allow, whoever chose the activations.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/cpu/coarse_argmax.h"
#include "kernels/cpu/coarse_head.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/ops.h"
#include "kernels/ref/dequantize.h"
#include "tests/catch.h"
#include "tests/kernels_linear/aligned_bytes.h"
#include "tests/kernels_linear/linear_emulated.h"
#include "tests/kernels_linear/random_weights.h"

namespace modu::kernels {
namespace {

using tests::AlignedBytes;
using tests::Random;
using tests::RandomMatrix;

std::vector<std::string> Levels() {
  std::vector<std::string> levels = {"avx2"};
  if (cpu::DetectIsa() >= cpu::Isa::kAvx512) levels.emplace_back("avx512");
  return levels;
}

/// A head of Q8_0, some of whose rows are copies of others.
class Head {
 public:
  Head(int64_t rows, int64_t cols, uint64_t seed) : matrix_(DType::kQ8_0, rows, cols, seed) {
    const WeightSource source = matrix_.source();
    bytes_.assign(source.data, source.data + rows * RowBytes(DType::kQ8_0, cols));
    for (int64_t row = 7; row < rows; row += 11) Copy(row / 2, row);
  }
  void Copy(int64_t from, int64_t to) {
    const int64_t bytes = RowBytes(DType::kQ8_0, matrix_.source().cols);
    std::copy_n(bytes_.data() + from * bytes, bytes, bytes_.data() + to * bytes);
  }
  WeightSource source() const {
    WeightSource source = matrix_.source();
    source.data = bytes_.data();
    return source;
  }
  std::vector<float> Row(int64_t row) const {
    std::vector<float> values(static_cast<size_t>(source().cols));
    DequantizeRow(DType::kQ8_0, bytes_.data() + row * RowBytes(DType::kQ8_0, source().cols),
                  source().cols, values.data());
    return values;
  }

 private:
  RandomMatrix matrix_;
  std::vector<std::byte> bytes_;
};

/// Activations that lie near row `like` of the head (0: nowhere), some of them large, around an
/// offset in every third group (so that groups have centres).
std::vector<float> ActivationsLike(const Head& head, int64_t like, float near, uint64_t seed) {
  Random random(seed);
  std::vector<float> values = head.Row(like);
  const float size = std::sqrt(static_cast<float>(values.size()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = near * size * values[i] + random.Gaussian() * (i % 97 == 0 ? 20.0f : 1.0f);
    if (seed % 2 == 1 && i / 32 % 3 == 1) values[i] += 6;
  }
  return values;
}

struct Packed {
  std::unique_ptr<Device> device;
  std::unique_ptr<PackedWeight> head;

  Packed(const WeightSource& source, const std::string& level, Numerics numerics = Numerics::kInt8)
      : device(OpenCpuDevice({.numerics = numerics, .num_threads = 2, .isa = level}).value()),
        head(device->Pack({&source, 1}, WeightUse::kHead).value()) {}

  std::unique_ptr<Buffer> Prepare(const std::vector<float>& rows, int num_tokens) {
    auto in = device->Allocate(device->PreparedBytes(*head, num_tokens));
    device->ops().norm(*device, {.num_tokens = num_tokens,
                                 .width = static_cast<int>(head->cols()),
                                 .hidden = rows.data(),
                                 .rows = nullptr,
                                 .weight = nullptr,
                                 .eps = 0,
                                 .consumer = head.get(),
                                 .out = {in->data()}});
    return in;
  }
  bool Argmax(const std::vector<float>& rows, int num_tokens, int limit, int32_t* ids) {
    const auto in = Prepare(rows, num_tokens);
    return device->ops().argmax(*device, {num_tokens, {in->data()}, head.get(), limit, ids});
  }
  bool ByCoarse(const std::vector<float>& rows, int num_tokens, int limit, int32_t* ids) {
    const auto in = Prepare(rows, num_tokens);
    return cpu::ArgmaxByCoarse(cpu::Cpu(*device),
                               {num_tokens, {in->data()}, head.get(), limit, ids});
  }
  std::vector<int32_t> LargestOfAll(const std::vector<float>& rows, int num_tokens, int limit) {
    const auto in = Prepare(rows, num_tokens);
    std::vector<float> all(static_cast<size_t>(num_tokens * head->rows()));
    device->ops().linear(
        *device, {num_tokens, {in->data()}, head.get(), nullptr, false, all.data(), head->rows()});
    std::vector<int32_t> ids;
    for (int t = 0; t < num_tokens; ++t) {
      const auto row = all.begin() + t * head->rows();
      ids.push_back(static_cast<int32_t>(std::max_element(row, row + limit) - row));
    }
    return ids;
  }
};

}  // namespace

TEST_CASE("argmax by upper bits gives the lowest id of linear's largest product") {
  for (const std::string& level : Levels()) {
    for (const int64_t cols : {32, 96, 576, 2304}) {
      const int64_t num_rows = 1500;
      const Head head(num_rows, cols, static_cast<uint64_t>(cols));
      Packed packed(head.source(), level);
      int told = 0, asked = 0;
      for (uint64_t seed = 1; seed <= 60; ++seed) {
        const int tokens = seed % 3 == 0 ? 2 : 1;
        constexpr int kLimits[] = {1500, 1499, 1470, 700, 33, 31, 1};
        const int limit = kLimits[seed % 11 < 7 ? seed % 11 : 0];
        std::vector<float> rows;
        for (int t = 0; t < tokens; ++t) {
          // Of 11 rows one is a copy: near some of those, the lower id must win.
          const auto like = static_cast<int64_t>(seed * 11 * 23 + static_cast<uint64_t>(t) * 2 + 7);
          const std::vector<float> row =
              ActivationsLike(head, like % limit, seed % 4 == 0 ? 0.3f : 2.0f,
                              seed + static_cast<uint64_t>(t));  // of two one has centres
          rows.insert(rows.end(), row.begin(), row.end());
        }
        int32_t ids[2] = {-7, -7};
        INFO(level << " cols " << cols << " seed " << seed);
        ++asked;
        if (!packed.ByCoarse(rows, tokens, limit, ids)) {
          CHECK(ids[0] == -7);
          continue;
        }
        ++told;
        const std::vector<int32_t> want = packed.LargestOfAll(rows, tokens, limit);
        CHECK(std::vector<int32_t>(ids, ids + tokens) == want);
      }
      INFO(level << " cols " << cols << ": told " << told << " of " << asked);
      CHECK(told > asked / 8);
    }
  }
}

TEST_CASE("argmax gives linear's, of any format, mode and number of rows") {
  for (const std::string& level : Levels()) {
    for (const Numerics numerics : {Numerics::kExact, Numerics::kBf16, Numerics::kInt8}) {
      for (const DType dtype : tests::kAllTypes) {
        const RandomMatrix matrix(dtype, 300, 256, 8);
        WeightSource source = matrix.source();
        const float factor = -0.5f;
        if (dtype == DType::kF8E4M3) {
          source.scales = &factor;
          source.num_scales = 1;
        }
        Packed packed(source, level, numerics);
        for (const int tokens : {1, 3, 65}) {
          Random random(static_cast<uint64_t>(tokens));
          std::vector<float> rows;
          for (int i = 0; i < tokens * 256; ++i) rows.push_back(random.Gaussian());
          std::fill(rows.end() - 256, rows.end(), 0.0f);  // of equals the lowest: 0
          for (const int limit : {1, 31, 33, 300}) {
            INFO(level << " " << TraitsOf(dtype).name << " tokens " << tokens << " limit "
                       << limit);
            std::vector<int32_t> ids(static_cast<size_t>(tokens), -7);
            REQUIRE(packed.Argmax(rows, tokens, limit, ids.data()));
            CHECK(ids == packed.LargestOfAll(rows, tokens, limit));
          }
        }
      }
    }
  }
}

TEST_CASE("argmax leaves to others what they must see") {
  const Head head(1500, 96, 3);
  const std::string level = Levels().back();
  Packed packed(head.source(), level);
  const std::vector<float> clear = ActivationsLike(head, 5, 4.0f, 2);
  int32_t ids[3] = {-7, -7, -7};
  SECTION("rows that are not finite, among others too") {
    std::vector<float> rows;
    for (int i = 0; i < 3; ++i) rows.insert(rows.end(), clear.begin(), clear.end());
    rows[40] =
        GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
    CHECK_FALSE(packed.Argmax(rows, 1, 1500, ids));
    CHECK_FALSE(packed.Argmax(rows, 3, 1500, ids));
    CHECK(ids[0] == -7);
  }
  SECTION("a weight that is not finite") {
    std::vector<std::byte> bytes(head.source().data,
                                 head.source().data + 1500 * RowBytes(DType::kQ8_0, 96));
    const uint16_t infinity = 0x7C00;
    std::memcpy(bytes.data() + 700 * RowBytes(DType::kQ8_0, 96), &infinity, sizeof(infinity));
    WeightSource source = head.source();
    source.data = bytes.data();
    Packed with_infinity(source, level);
    CHECK_FALSE(with_infinity.Argmax(clear, 1, 1500, ids));
    CHECK(ids[0] == -7);
    CHECK(with_infinity.Argmax(clear, 1, 600, ids));  // not one of those asked for
    CHECK(ids[0] == 5);
  }
  SECTION("by upper bits: many rows, huge ones, other formats") {
    std::vector<float> rows;
    for (int i = 0; i < 3; ++i) rows.insert(rows.end(), clear.begin(), clear.end());
    CHECK_FALSE(packed.ByCoarse(rows, 3, 1500, ids));
    rows[40] = 3e38f;
    CHECK_FALSE(packed.ByCoarse(rows, 1, 1500, ids));
    const RandomMatrix q4(DType::kQ4_1, 1500, 96, 4);
    CHECK_FALSE(Packed(q4.source(), level).ByCoarse(clear, 1, 1500, ids));
    CHECK(ids[0] == -7);
  }
  SECTION("by upper bits: products near to each other, for a while") {
    const std::vector<float> level_row(96, 0.0f);
    std::vector<float> level_rows(2 * 96, 0.0f);
    CHECK(packed.ByCoarse(level_row, 1, 1500, ids));  // all strips are left
    CHECK(ids[0] == 0);
    CHECK(packed.ByCoarse(clear, 1, 1500, ids));  // one says nothing of the next
    CHECK(ids[0] == 5);
    ids[0] = -7;
    CHECK_FALSE(packed.ByCoarse(level_rows, 2, 1500, ids));  // twice all strips
    for (const int pause : {0, 1, 3, 7, 15, 15}) {
      INFO(pause);
      for (int call = 0; call < pause; ++call) {
        CHECK_FALSE(packed.ByCoarse(clear, 1, 1500, ids));
      }
      CHECK(ids[0] == -7);
      CHECK(packed.ByCoarse(level_row, 1, 1500, ids));
      CHECK(ids[0] == 0);
      ids[0] = -7;
    }
    for (int call = 0; call < 15; ++call) CHECK_FALSE(packed.ByCoarse(clear, 1, 1500, ids));
    CHECK(packed.ByCoarse(clear, 1, 1500, ids));
    std::vector<float> both = level_row;
    both.insert(both.end(), clear.begin(), clear.end());
    CHECK(packed.ByCoarse(both, 2, 1500, ids));  // all strips of one row, few of the other
    CHECK(ids[0] == 0);
    CHECK(ids[1] == 5);
    ids[1] = -7;
    CHECK(packed.ByCoarse(clear, 1, 1500, ids));
    CHECK(packed.ByCoarse(level_row, 1, 1500, ids));  // what paid ends pauses
    CHECK(packed.ByCoarse(clear, 1, 1500, ids));
    CHECK(ids[0] == 5);
  }
  CHECK(ids[1] == -7);
}

}  // namespace modu::kernels

namespace modu::kernels::cpu {
namespace {

struct Set {
  const char* name;
  const Int8Kernels* whole;
  CoarseStripFn coarse;
};
std::vector<Set> Sets() {
  std::vector<Set> sets = {{"avx2", &Int8KernelsAvx2(), CoarseStripAvx2()}};
#if defined(MODU_HAVE_EMULATED)
  sets.push_back({"emulated avx512", &Int8KernelsEmulated(), CoarseStripEmulated()});
#endif
  if (DetectIsa() >= Isa::kAvx512) {
    sets.push_back({"avx512", &Int8KernelsAvx512(), CoarseStripAvx512()});
  }
  return sets;
}

/// The part of a row's weights that coarse codes leave out.
std::vector<float> LeftOut(const std::byte* row, int64_t cols) {
  std::vector<float> left;
  for (int64_t k = 0; k < cols; ++k) {
    const std::byte* const block = row + k / 32 * 34;
    uint16_t d;
    std::memcpy(&d, block, sizeof(d));
    const int code = static_cast<int8_t>(block[2 + k % 32]) + 128;
    left.push_back(F16ToFloat(d) * (static_cast<float>(code % 8) - 3.5f));
  }
  return left;
}

}  // namespace

TEST_CASE("no product is above what its strip's coarse ones allow") {
  for (const int64_t cols : {32, 96, 576, 2304, 4128}) {
    constexpr int kRows = 77;
    const RandomMatrix matrix(DType::kQ8_0, kRows, cols, 9);
    const WeightSource source = matrix.source();
    WorkerPool pool(2);
    WeightArena arena(int64_t{1} << 30);
    const auto weight =
        CpuWeight::Create({&source, 1}, WeightUse::kHead, Numerics::kInt8, pool, arena).value();
    const PreparedLayout& layout = weight->prepared();
    const auto head = CoarseHead::Create(weight->strips(), layout, pool, arena).value();
    REQUIRE(head != nullptr);
    double tightest = 1e9;
    for (int seed = 0; seed < 40; ++seed) {
      // What a row's codes leave out, to multiply it: the worst that can be chosen; and anything.
      Random random(static_cast<uint64_t>(seed));
      const int chosen = seed % kRows;
      std::vector<float> values(static_cast<size_t>(cols));
      const std::vector<float> left = LeftOut(matrix.row(chosen), cols);
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] =
            seed % 2 == 0 ? left[i] * 1000 : random.Gaussian() * (i % 53 == 0 ? 40.0f : 1.0f);
        if (seed % 4 == 3 && i / 32 % 2 == 1) values[i] += 8;
      }
      // The row, and beside it another, with centres where the first has none.
      tests::AlignedBytes in(static_cast<size_t>(2 * layout.row_bytes));
      const auto of_row = static_cast<size_t>(2 * PairsOf(layout.groups()));
      std::vector<CoarseGroup> groups(2 * of_row);
      CoarseRow rows[2];
      for (size_t r = 0; r < 2; ++r) {
        std::byte* const to = in.data() + static_cast<int64_t>(r) * layout.row_bytes;
        FloatKernelsAvx2().prepare(layout, to, 0, cols, values.data());
        REQUIRE(head->Describe(layout, to, groups.data() + r * of_row, &rows[r]));
        for (float& value : values) value = 5 - 0.5f * value;
      }
      for (float& value : values) value = 4 * (value - 5 + 2.5f);  // as it was
      for (const Set& set : Sets()) {
        for (size_t s = 0; s < weight->strips().size(); ++s) {
          INFO(set.name << " cols " << cols << " seed " << seed << " strip " << s);
          const Strip& strip = weight->strips()[s];
          float largest[2];
          for (int r = 0; r < 2; ++r) {
            tests::AlignedBytes tile(sizeof(float) * kStrip);
            set.whole->strip[static_cast<int>(strip.format)](
                strip.data, layout, in.data() + r * layout.row_bytes, 1, Ahead(), tile.floats());
            largest[r] = *std::max_element(tile.floats(), tile.floats() + strip.columns);
          }
          float best[2], upper[2];
          for (const size_t some : {1, 2}) {
            set.coarse(head->strip(static_cast<int64_t>(s)), layout.groups(), {rows, some},
                       {best, upper, 1});
            for (size_t r = 0; r < some; ++r) {
              REQUIRE(largest[r] <= upper[r]);
              REQUIRE(best[r] <= upper[r]);
              if (strip.columns == kStrip) CHECK(largest[r] >= 2 * best[r] - upper[r]);
            }
          }
          if (seed % 2 == 0 && static_cast<int>(s) == chosen / kStrip) {
            const double sum = std::inner_product(left.begin(), left.end(), values.begin(), 0.0);
            tightest = std::min(tightest, (upper[0] - best[0]) / sum);
          }
        }
      }
    }
    // Nor by far: what was chosen to be left out nearly is.
    INFO("cols " << cols << ": " << tightest);
    CHECK(tightest < 2);
  }
}

}  // namespace modu::kernels::cpu
