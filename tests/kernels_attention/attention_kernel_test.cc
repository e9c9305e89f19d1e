// The attention kernels themselves: against the formula in double, and bit for bit against
// themselves under every way of cutting the same work.
#include <algorithm>
#include <initializer_list>
#include <span>
#include <string>

#include "kernels/cpu/isa.h"
#include "tests/catch.h"
#include "tests/kernels_attention/attention_emulated.h"
#include "tests/kernels_attention/attention_twin.h"
#include "tests/kernels_attention/paged_sequence.h"

namespace modu::kernels::cpu {
namespace {

constexpr DType kTypes[] = {DType::kBF16, DType::kF32, DType::kI8, DType::kF8E4M3};

struct Level {
  std::string name;
  const AttentionKernels* attention;
  const RowKernels* rows;
  bool tiles = false;
  bool slow = false;  // in plain code or emulated: fewer shapes of codes
};

/// Those that compute in f32, over int8 KV in whole numbers, with the same bits.
std::vector<Level> VectorLevels() {
  std::vector<Level> levels;
  if (DetectIsa() >= Isa::kAvx2) levels.push_back({"avx2", &kAttentionAvx2, &kRowKernelsAvx2});
  if (DetectIsa() >= Isa::kAvx512) {
    levels.push_back({"avx512", &kAttentionAvx512, &kRowKernelsAvx512});
  }
#if defined(MODU_HAVE_EMULATED)
  if (DetectIsa() >= Isa::kAvx2) {
    levels.push_back({"emulated", &kAttentionEmulated, &kRowKernelsEmulated, false, true});
  }
#endif
  return levels;
}

/// Those that multiply bf16 KV on tile registers, with the same bits.
std::vector<Level> TileLevels() {
  std::vector<Level> levels;
  if (DetectIsa() < Isa::kAvx2) return levels;
  static const AttentionKernels twin = AttentionKernelsTwin();
  levels.push_back({"twin", &twin, &kRowKernelsAvx2, true, true});
#if defined(MODU_HAVE_EMULATED)
  static const AttentionKernels emulated = TileAttentionEmulated();
  levels.push_back({"twin over emulated AVX-512", &emulated, &kRowKernelsEmulated, true, true});
#endif
  if (DetectIsa() >= Isa::kAmx) {
    static const AttentionKernels amx = AttentionKernelsAmx();
    levels.push_back({"amx", &amx, &kRowKernelsAvx512, true});
  }
  return levels;
}

/// Those that multiply bf16 KV by dot products of AVX512-BF16, with the same bits.
std::vector<Level> DotLevels() {
  std::vector<Level> levels;
  if (DetectIsa() < Isa::kAvx2) return levels;
  static const AttentionKernels twin = AttentionKernelsDotTwin();
  levels.push_back({"dot twin", &twin, &kRowKernelsAvx2, true, true});
#if defined(MODU_HAVE_EMULATED)
  static const AttentionKernels emulated = DotAttentionEmulated();
  levels.push_back({"emulated AVX512-BF16", &emulated, &kRowKernelsEmulated, true, true});
#endif
  if (MissingFor(Isa::kAvx512Bf16, ReadMachine()).empty()) {
    static const AttentionKernels native = AttentionKernelsAvx512Bf16();
    levels.push_back({"avx512bf16", &native, &kRowKernelsAvx512, true});
  }
  return levels;
}

std::vector<Level> Levels() {
  std::vector<Level> levels = VectorLevels();
  for (const Level& level : TileLevels()) levels.push_back(level);
  for (const Level& level : DotLevels()) levels.push_back(level);
  return levels;
}

/// Those with a kernel of their own for that KV: tiles leave float32 to the vector kernels.
std::vector<Level> LevelsOver(DType dtype) {
  std::vector<Level> levels;
  for (const Level& level : Levels()) {
    const auto has_its_kernel = [&](const Level& other) {
      return other.attention->Run(dtype) == level.attention->Run(dtype);
    };
    if (std::ranges::none_of(levels, has_its_kernel)) levels.push_back(level);
  }
  return levels;
}

/// Those to try a shape of many on: slow ones have codes of one type and one group of heads, as
/// the others go the same way.
std::vector<Level> LevelsFor(const AttentionShape& shape) {
  std::vector<Level> levels = LevelsOver(shape.dtype);
  if (IsKvCode(shape.dtype) && (shape.dtype != DType::kI8 || shape.group != 3)) {
    std::erase_if(levels, [](const Level& level) { return level.slow; });
  }
  return levels;
}

/// Of attention outputs. On tiles queries and probabilities are rounded to bf16, or queries to
/// int8, and codes times their scale to bf16; on vectors both are rounded to 16 bits over int8 KV.
double Limit(const Level& level, DType dtype) {
  if (level.tiles && dtype != DType::kF32) return IsKvCode(dtype) ? 7e-2 : 3e-2;
  return dtype == DType::kI8 ? 1.5e-3 : 2e-5;
}

/// Largest |error| over the root mean square of the expected values.
double WorstError(std::span<const float> got, std::span<const double> expected) {
  REQUIRE(got.size() == expected.size());
  double worst = 0, squares = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::fabs(got[i] - expected[i]);
    if (!(error <= worst)) worst = error;  // NaN counts
    squares += expected[i] * expected[i];
  }
  return worst / std::sqrt(squares / static_cast<double>(expected.size()));
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// The last tokens of a sequence as queries, as many as each of `num_queries` says.
void CheckAgainstFormula(const std::vector<Level>& levels, const AttentionShape& shape, int seq_len,
                         std::initializer_list<int> num_queries) {
  PagedSequence sequence(shape, seq_len, static_cast<uint32_t>(seq_len * 31 + shape.head_dim));
  std::vector<double> expected;  // after the first Append: all leave the same rows
  for (const Level& level : levels) {
    sequence.Clear();
    sequence.Append(*level.rows, 0, seq_len);
    if (expected.empty()) {
      const int most = std::max(num_queries);
      expected = sequence.Expected(seq_len - most, most);
    }
    for (const int num_query : num_queries) {
      INFO(level.name << " seq_len " << seq_len << " queries " << num_query << " group "
                      << shape.group << " head_dim " << shape.head_dim << " window " << shape.window
                      << " " << TraitsOf(shape.dtype).name);
      const int first = seq_len - num_query;
      const auto got = sequence.Attend(*level.attention, first, num_query);
      CHECK(WorstError(got, std::span(expected).last(got.size())) < Limit(level, shape.dtype));
      CHECK(SameBits(got, sequence.Attend(*level.attention, first, num_query, /*split=*/true)));
    }
  }
}

TEST_CASE("attention matches the formula at odd lengths") {
  for (const DType dtype : kTypes) {
    AttentionShape shape;
    shape.dtype = dtype;
    const auto levels = LevelsFor(shape);
    for (const int seq_len : {1, 31, 32, 33, 255, 256, 257, 600}) {
      CheckAgainstFormula(levels, shape, seq_len, {1, std::min(seq_len, 33)});
    }
  }
}

TEST_CASE("attention matches the formula for every group and head size") {
  for (const DType dtype : kTypes) {
    for (const int group : {1, 2, 3, 4, 5, 6, 7, 8, 16}) {
      for (const int head_dim : {16, 20, 24, 64, 80, 128}) {
        AttentionShape shape;
        shape.group = group;
        shape.num_kv_heads = 1;
        shape.head_dim = head_dim;
        shape.dtype = dtype;
        CheckAgainstFormula(LevelsFor(shape), shape, 67, {1, 9});
      }
    }
  }
  for (const DType dtype : {DType::kBF16, DType::kI8, DType::kF8E4M3}) {
    const auto levels = LevelsOver(dtype);
    for (const int head_dim : {18, 96, 256}) {  // a quad that is cut, two tiles of codes, four
      AttentionShape shape;
      shape.head_dim = head_dim;
      shape.dtype = dtype;
      CheckAgainstFormula(levels, shape, 100, {5});
    }
  }
}

TEST_CASE("attention matches the formula for every window") {
  for (const DType dtype : kTypes) {
    for (const int window : {1, 8, 16, 33, 300}) {
      for (const int group : {1, 3, 8}) {
        AttentionShape shape;
        shape.group = group;
        shape.head_dim = 32;
        shape.window = window;
        shape.dtype = dtype;
        const auto levels = LevelsFor(shape);
        CheckAgainstFormula(levels, shape, 33, {33});
        CheckAgainstFormula(levels, shape, 270, {30});  // a tile across the border of two pieces
        // A window within a piece and one over a border: the others add nothing.
        if (window == 8 || window == 300) CheckAgainstFormula(levels, shape, 600, {1, 18});
      }
    }
  }
}

// Chunks append and attend before later tokens exist (their slots still hold NaN).
std::vector<float> InChunks(const Level& level, PagedSequence& sequence, int chunk,
                            bool split = false) {
  sequence.Clear();
  std::vector<float> all;
  for (int first = 0; first < sequence.seq_len(); first += chunk) {
    const int count = std::min(chunk, sequence.seq_len() - first);
    sequence.Append(*level.rows, first, count);
    const auto rows = sequence.Attend(*level.attention, first, count, split);
    all.insert(all.end(), rows.begin(), rows.end());
  }
  return all;
}

TEST_CASE("chunks, whole prompts and split pieces give the same bits") {
  for (const DType dtype : kTypes) {
    for (const int window : {0, 33}) {
      for (const int group : {1, 3, 7}) {
        if (IsKvCode(dtype) && group != 3) continue;
        AttentionShape shape;
        shape.group = group;
        shape.num_kv_heads = 1;
        shape.head_dim = 32;
        shape.window = window;
        shape.dtype = dtype;
        PagedSequence three_pieces(shape, 530, 77), two_pieces(shape, 270, 77);
        for (const Level& level : LevelsFor(shape)) {
          if (level.slow && window == 0 && (group == 7 || IsKvCode(dtype))) continue;
          PagedSequence& sequence = level.slow ? two_pieces : three_pieces;
          INFO(level.name << " group " << group << " window " << window << " "
                          << TraitsOf(dtype).name);
          const auto whole = InChunks(level, sequence, sequence.seq_len());
          for (const int chunk : {1, 7, 32, 100}) {
            if (IsKvCode(dtype) && chunk == 1 && level.slow) continue;
            CHECK(SameBits(whole, InChunks(level, sequence, chunk)));
          }
          CHECK(SameBits(whole, InChunks(level, sequence, 7, /*split=*/true)));
        }
      }
    }
  }
}

TEST_CASE("the check above sees a merge in another order") {
  if (DetectIsa() < Isa::kAvx2) return;
  AttentionShape shape;
  PagedSequence sequence(shape, 600, 5);
  sequence.Append(kRowKernelsAvx2, 0, 600);
  const auto right = sequence.Attend(kAttentionAvx2, 590, 10, true, false);
  const auto wrong = sequence.Attend(kAttentionAvx2, 590, 10, true, true);
  CHECK(SameBits(right, sequence.Attend(kAttentionAvx2, 590, 10)));
  CHECK_FALSE(SameBits(right, wrong));
  CHECK(WorstError(wrong, sequence.Expected(590, 10)) < 2e-5);  // as good, but not the same
}

TEST_CASE("every instruction set gives the same bits") {
  const auto all = GENERATE(VectorLevels(), TileLevels(), DotLevels());
  for (const DType dtype : kTypes) {
    auto levels = all;
    std::erase_if(levels, [&](const Level& level) {
      // Float32 KV is the vector levels'; the twin of dot products has int8 KV by way of bf16.
      return (dtype == DType::kF32 && level.tiles) ||
             (dtype == DType::kI8 && level.name == "dot twin");
    });
    if (levels.size() < 2) continue;
    for (const int head_dim : {80, 64}) {  // the latter by steps of two tiles of rows
      for (const int group : {1, 3, 4, 5, 8}) {
        if ((IsKvCode(dtype) || head_dim == 64) && group != 3 && group != 8) continue;
        AttentionShape shape;
        shape.group = group;
        shape.num_kv_heads = 1;
        shape.head_dim = head_dim;
        shape.dtype = dtype;
        PagedSequence sequence(shape, 270, 77);  // two pieces
        const auto first = InChunks(levels[0], sequence, 60);
        for (const Level& level : std::span(levels).subspan(1)) {
          INFO(level.name << " as " << levels[0].name << " group " << group << " head " << head_dim
                          << " " << TraitsOf(dtype).name);
          CHECK(SameBits(first, InChunks(level, sequence, 60)));
        }
      }
    }
  }
}

#if defined(MODU_HAVE_EMULATED)
TEST_CASE("values with half of the products have the bits of those with all of them") {
  if (DetectIsa() < Isa::kAvx2) return;
  const AttentionKernels half = DotAttentionEmulated(), all = PlainValuesEmulated();
  AttentionShape shape;
  shape.group = 1;
  shape.num_kv_heads = 1;
  shape.head_dim = 80;  // an odd number of groups of 16
  shape.dtype = DType::kI8;
  constexpr int kLength = 300;  // two pieces, the last block partly seen
  PagedSequence sequence(shape, kLength, 9);
  sequence.Append(kRowKernelsEmulated, 0, kLength);
  for (int rows = 1; rows <= 16; ++rows) {
    INFO(rows << " rows of a tile");
    const auto got = sequence.Attend(half, kLength - rows, rows);
    CHECK(SameBits(got, sequence.Attend(all, kLength - rows, rows)));
  }
}
#endif

TEST_CASE("a token whose V is not finite spoils the rows that see it and no others") {
  const float poison = GENERATE(NAN, INFINITY, 3.4e38f);  // the last becomes infinite in bf16
  const int head_dim = GENERATE(80, 64);  // the latter by steps of two tiles of rows
  const int dim = GENERATE(5, 58);
  const DType dtype = GENERATE(DType::kBF16, DType::kI8, DType::kF8E4M3);
  if (dtype != DType::kBF16 && std::isfinite(poison)) return;  // with its own scale it is finite
  for (const Level& level : Levels()) {
    AttentionShape shape;
    shape.dtype = dtype;
    shape.head_dim = head_dim;
    constexpr int kLength = 70, kPoisoned = 41;
    PagedSequence sequence(shape, kLength, 8);
    sequence.Append(*level.rows, 0, kLength);
    const auto clean = sequence.Attend(*level.attention, 0, kLength);
    const size_t v = static_cast<size_t>((shape.group + 1) * shape.num_kv_heads * shape.head_dim);
    for (int head = 0; head < shape.num_kv_heads; ++head) {
      sequence.row(kPoisoned)[v + static_cast<size_t>(head * shape.head_dim + dim)] = poison;
    }
    sequence.Append(*level.rows, kPoisoned, 1);
    const auto got = sequence.Attend(*level.attention, 0, kLength);
    const auto width = static_cast<size_t>(sequence.q_width());
    INFO(level.name << " " << poison << " in dim " << dim << " " << TraitsOf(dtype).name);
    CHECK(std::memcmp(got.data(), clean.data(), kPoisoned * width * sizeof(float)) == 0);
    CHECK(std::all_of(got.begin() + kPoisoned * static_cast<long>(width), got.end(),
                      [](float x) { return std::isnan(x); }));
  }
}

TEST_CASE("a token whose K is not finite spoils the rows that see it and no others") {
  struct Case {
    int length, poisoned, window;
  };
  const float poison = GENERATE(NAN, INFINITY);
  const DType dtype = GENERATE(DType::kBF16, DType::kI8, DType::kF8E4M3);
  // In the first piece, in a later one, and out of the last rows' sight.
  const auto [length, poisoned, window] =
      GENERATE(Case{70, 41, 0}, Case{290, 270, 0}, Case{290, 270, 12});
  if (length > kPieceTokens && std::isinf(poison)) return;  // one is enough
  for (const Level& level : Levels()) {
    AttentionShape shape;
    shape.dtype = dtype;
    shape.num_kv_heads = 1;
    shape.window = window;
    PagedSequence sequence(shape, length, 8), clean(shape, length, 8);
    const auto k = static_cast<size_t>(shape.group * shape.head_dim);
    sequence.row(poisoned)[k + 17] = poison;
    sequence.Append(*level.rows, 0, length);
    clean.Append(*level.rows, 0, length);
    const auto got = sequence.Attend(*level.attention, 0, length);
    const auto expected = clean.Attend(*level.attention, 0, length);
    const auto width = static_cast<size_t>(sequence.q_width());
    INFO(level.name << " " << TraitsOf(dtype).name);
    const auto at = [&](int position) { return static_cast<size_t>(position) * width; };
    const int end = window == 0 ? length : poisoned + window;  // one past who sees it
    CHECK(std::memcmp(got.data(), expected.data(), at(poisoned) * sizeof(float)) == 0);
    CHECK(std::all_of(got.begin() + static_cast<long>(at(poisoned)),
                      got.begin() + static_cast<long>(at(end)),
                      [](float x) { return std::isnan(x); }));
    CHECK(std::memcmp(got.data() + at(end), expected.data() + at(end),
                      at(length - end) * sizeof(float)) == 0);
  }
}

TEST_CASE("the smallest codes of FP8, below its normal numbers, are numbers of their own") {
  for (const Level& level : Levels()) {
    AttentionShape shape;
    shape.dtype = DType::kF8E4M3;
    shape.num_kv_heads = 1;
    PagedSequence sequence(shape, 1, 3);
    std::vector<double> rotated(64);  // what is to be coded
    for (int d = 0; d < 64; ++d) rotated[static_cast<size_t>(d)] = (d % 20 - 10) * 0x1p-9;
    rotated[63] = 448;
    std::vector<double> v = rotated;
    sequence.Rotate(v.data());
    float* const row = sequence.row(0) + (shape.group + 1) * shape.head_dim;
    std::ranges::transform(v, row, [](double x) { return static_cast<float>(x); });
    sequence.Append(*level.rows, 0, 1);
    const auto got = sequence.Attend(*level.attention, 0, 1);
    std::vector<double> back(got.begin(), got.begin() + 64);
    sequence.Rotate(back.data());
    for (size_t d = 0; d < 63; ++d) {
      INFO(level.name << " dim " << d);
      CHECK(std::fabs(64 * back[d] - rotated[d]) <= 0.05 * std::fabs(rotated[d]) + 1e-5);
    }
  }
}

TEST_CASE("zeros, the smallest and the largest values have codes") {
  for (const DType dtype : {DType::kI8, DType::kF8E4M3}) {
    for (const float size : {0.0f, 1e-41f, 1e-33f, 2e-30f, 1e-20f, 1e15f}) {
      AttentionShape shape;
      shape.dtype = dtype;
      PagedSequence sequence(shape, 40, 3);
      for (int t = 0; t < 40; ++t) {
        for (size_t i = 0; i < sequence.row_width(); ++i) {
          const bool is_query = i < static_cast<size_t>(sequence.q_width());
          sequence.row(t)[i] *= is_query ? (size > 1 ? 1 / size : 1.0f) : size;
        }
      }
      std::vector<double> expected;
      for (const Level& level : Levels()) {
        sequence.Clear();
        sequence.Append(*level.rows, 0, 40);
        if (expected.empty()) expected = sequence.Expected(0, 40);
        const auto got = sequence.Attend(*level.attention, 0, 40);
        INFO(level.name << " " << TraitsOf(dtype).name << " " << size);
        if (size < kLeastKvMagnitude) {
          CHECK(std::all_of(got.begin(), got.end(), [](float x) { return x == 0; }));
        } else {
          CHECK(WorstError(got, expected) < Limit(level, dtype));
        }
      }
    }
  }
}

/// K has one dim far larger than the others, as models' K have: codes of a head as it is would hold
/// little of the rest.
TEST_CASE("a rotation saves what a large dim of K costs the others") {
  for (const Level& level : Levels()) {
    AttentionShape codes, plain;
    codes.dtype = DType::kI8;
    plain.dtype = DType::kF32;
    constexpr int kLength = 90;
    PagedSequence coded(codes, kLength, 4), exact(plain, kLength, 4), unrotated(plain, kLength, 4);
    for (PagedSequence* sequence : {&coded, &exact, &unrotated}) {
      for (int t = 0; t < kLength; ++t) {
        for (int head = 0; head < codes.num_kv_heads; ++head) {
          float* const k =
              sequence->row(t) + (codes.group * codes.num_kv_heads + head) * codes.head_dim;
          k[11] += 60.0f;  // the same for all: no score changes by it
          if (sequence != &unrotated) continue;
          const auto stored = unrotated.Stored(k, DType::kI8);
          std::ranges::transform(stored, k, [](double x) { return static_cast<float>(x); });
        }
      }
      sequence->Append(*level.rows, 0, kLength);
    }
    const auto expected = exact.Expected(0, kLength);
    const double without = WorstError(unrotated.Attend(*level.attention, 0, kLength), expected);
    INFO(level.name);
    CHECK(WorstError(coded.Attend(*level.attention, 0, kLength), expected) < 0.5 * without);
  }
}

TEST_CASE("scores far apart neither overflow nor lose the winner") {
  AttentionShape shape;
  shape.dtype = DType::kF32;
  PagedSequence sequence(shape, 520, 9);
  for (int t = 0; t < 520; ++t) {
    for (int i = 0; i < sequence.q_width(); ++i) sequence.row(t)[i] *= 60.0f;
  }
  std::vector<double> expected;
  for (const Level& level : LevelsOver(shape.dtype)) {
    sequence.Clear();
    sequence.Append(*level.rows, 0, 520);
    if (expected.empty()) expected = sequence.Expected(500, 20);
    INFO(level.name);
    CHECK(WorstError(sequence.Attend(*level.attention, 500, 20), expected) < 1e-4);
  }
}

}  // namespace
}  // namespace modu::kernels::cpu
