// The ops around attention through the op table: against the plain backend, and bit for bit against
// themselves for every batch, chunk size and number of workers.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/float_formats.h"
#include "kernels/ops.h"
#include "tests/catch.h"
#include "tests/kernels_attention/attention_emulated.h"
#include "tests/kernels_attention/attention_twin.h"
#include "tests/kernels_linear/tile_twin.h"

namespace modu::kernels {
namespace {

struct Model {
  int num_heads = 6, num_kv_heads = 2, head_dim = 32;
  int rotary_dim = 32;
  bool interleaved = false;
  bool qk_norm = false;
  int window = 0;
  DType kv_dtype = DType::kBF16;
  Numerics numerics = Numerics::kExact;
  bool int8_consumer = false;
};

/// Tokens [first, first + count) of the sequence with this seed; its earlier ones are in the cache.
struct Chunk {
  uint32_t seed;
  int first, count;
};

/// One backend with a KV cache, whose attention output is read through an identity projection.
class Backend {
 public:
  Backend(std::unique_ptr<Device> device, const Model& model)
      : device_(std::move(device)), model_(model) {
    const int width = model.num_heads * model.head_dim;
    block_size_ = device_->KvBlockSize();
    kv_ = device_->CreateKvCache(
        {2, model.num_kv_heads, model.head_dim, block_size_, model.kv_dtype}, kBlocks);
    if (model.int8_consumer) {
      const size_t row = static_cast<size_t>(RowBytes(DType::kQ8_0, width));
      std::vector<std::byte> blocks(row * static_cast<size_t>(width));
      for (int n = 0; n < width; ++n) {
        for (int b = 0; b < width / 32; ++b) {
          std::byte* block = blocks.data() + static_cast<size_t>(n) * row + b * 34;
          const uint16_t d = FloatToF16(1.0f / 64);  // codes as large as a checkpoint's
          std::memcpy(block, &d, 2);
          if (n / 32 == b) block[2 + n % 32] = std::byte{64};
        }
      }
      const WeightSource source{DType::kQ8_0, width, width, blocks.data()};
      consumer_ = device_->Pack({&source, 1}, WeightUse::kLinear).value();
    } else {
      std::vector<float> identity(static_cast<size_t>(width) * width);
      for (int n = 0; n < width; ++n) identity[static_cast<size_t>(n) * width + n] = 1.0f;
      const WeightSource source{DType::kF32, width, width,
                                reinterpret_cast<const std::byte*>(identity.data())};
      consumer_ = device_->Pack({&source, 1}, WeightUse::kLinear).value();
    }
    for (int i = 0; i < model.head_dim; ++i) {
      norm_.push_back(0.5f + 0.01f * static_cast<float>(i));
    }
    for (int i = 0; i < model.rotary_dim / 2; ++i) {
      inv_freq_.push_back(
          std::pow(10000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(model.rotary_dim)));
    }
  }

  /// Sequence `seed` begins with the first `blocks` blocks of `other`: the same tokens in the same
  /// memory.
  void Share(uint32_t seed, uint32_t other, int blocks) { begins_[seed] = {other, blocks}; }

  /// One step; returns a row of [H * D] for each token, in order.
  std::vector<std::vector<float>> Step(const std::vector<Chunk>& chunks) {
    return Run(chunks, /*attends=*/true);
  }

  /// One step as far as its K and V lie in the cache.
  void Append(const std::vector<Chunk>& chunks) { Run(chunks, /*attends=*/false); }

  /// All rows of one sequence, `chunk` tokens a step.
  std::vector<std::vector<float>> Whole(uint32_t seed, int length, int chunk) {
    std::vector<std::vector<float>> all;
    for (int first = 0; first < length; first += chunk) {
      for (auto& row : Step({{seed, first, std::min(chunk, length - first)}})) {
        all.push_back(std::move(row));
      }
    }
    return all;
  }

 private:
  static constexpr int kBlocks = 256;

  std::vector<std::vector<float>> Run(const std::vector<Chunk>& chunks, bool attends) {
    const Model& m = model_;
    const int width = m.num_heads * m.head_dim;
    const int row_width = (m.num_heads + 2 * m.num_kv_heads) * m.head_dim;
    std::vector<int32_t> positions, cu_seqlens{0}, seq_lens, table;
    std::vector<int64_t> slots;
    std::vector<float> qkv;
    for (const Chunk& chunk : chunks) {
      for (int t = chunk.first; t < chunk.first + chunk.count; ++t) {
        positions.push_back(t);
        slots.push_back(int64_t{BlockOf(chunk.seed, t / block_size_)} * block_size_ +
                        t % block_size_);
        std::mt19937 random(OwnerOf(chunk.seed, t / block_size_) * 7919u +
                            static_cast<uint32_t>(t));
        std::normal_distribution<float> normal;
        for (int i = 0; i < row_width; ++i) qkv.push_back(normal(random));
      }
      cu_seqlens.push_back(static_cast<int32_t>(positions.size()));
      seq_lens.push_back(chunk.first + chunk.count);
    }
    constexpr int kTableStride = 40;
    table.assign(chunks.size() * kTableStride, -1);
    for (size_t s = 0; s < chunks.size(); ++s) {
      for (int b = 0; b * block_size_ < seq_lens[s]; ++b) {
        table[s * kTableStride + static_cast<size_t>(b)] = BlockOf(chunks[s].seed, b);
      }
    }
    const int tokens = static_cast<int>(positions.size());
    std::vector<float> cos_sin(static_cast<size_t>(tokens) * m.rotary_dim);
    const OpTable& ops = device_->ops();
    ops.rope_table(
        *device_, {tokens, positions.data(), m.rotary_dim, inv_freq_.data(), 1.0f, cos_sin.data()});
    QkvParams q{};
    q.num_tokens = tokens;
    q.num_heads = m.num_heads;
    q.num_kv_heads = m.num_kv_heads;
    q.head_dim = m.head_dim;
    q.qkv = qkv.data();
    q.q_norm = m.qk_norm ? norm_.data() : nullptr;
    q.k_norm = q.q_norm;
    q.norm_eps = 1e-5f;
    q.cos_sin = m.rotary_dim > 0 ? cos_sin.data() : nullptr;
    q.rotary_dim = m.rotary_dim;
    q.interleaved = m.interleaved;
    q.q_scale = 1.0f / std::sqrt(static_cast<float>(m.head_dim));
    q.kv = kv_.get();
    q.layer = 1;
    q.slot_mapping = slots.data();
    ops.qkv(*device_, q);
    if (!attends) return {};
    const auto prepared = device_->Allocate(device_->PreparedBytes(*consumer_, tokens));
    AttentionParams a{};
    a.num_tokens = tokens;
    a.num_seqs = static_cast<int>(chunks.size());
    a.num_heads = m.num_heads;
    a.num_kv_heads = m.num_kv_heads;
    a.head_dim = m.head_dim;
    a.qkv = qkv.data();
    a.kv = kv_.get();
    a.layer = 1;
    a.cu_seqlens = cu_seqlens.data();
    a.seq_lens = seq_lens.data();
    a.block_table = table.data();
    a.block_table_stride = kTableStride;
    a.window = m.window;
    a.consumer = consumer_.get();
    a.out = {prepared->data()};
    ops.attention(*device_, a);
    std::vector<float> out(static_cast<size_t>(tokens) * width);
    ops.linear(*device_,
               {tokens, {prepared->data()}, consumer_.get(), nullptr, false, out.data(), width});
    std::vector<std::vector<float>> rows;
    for (int t = 0; t < tokens; ++t) {
      rows.emplace_back(out.begin() + int64_t{t} * width, out.begin() + int64_t{t + 1} * width);
    }
    return rows;
  }

  uint32_t OwnerOf(uint32_t seed, int index) const {
    const auto begin = begins_.find(seed);
    if (begin == begins_.end() || index >= begin->second.second) return seed;
    return OwnerOf(begin->second.first, index);
  }

  int32_t BlockOf(uint32_t seed, int index) {
    seed = OwnerOf(seed, index);
    const auto [at, is_new] = blocks_.try_emplace({seed, index}, 0);
    if (is_new) at->second = static_cast<int32_t>(blocks_.size() * 97 % kBlocks);  // scattered
    REQUIRE(blocks_.size() < kBlocks);
    return at->second;
  }

  std::unique_ptr<Device> device_;
  Model model_;
  int block_size_ = 0;
  std::unique_ptr<KvCache> kv_;
  std::unique_ptr<PackedWeight> consumer_;
  std::vector<float> norm_, inv_freq_;
  std::map<std::pair<uint32_t, int>, int32_t> blocks_;
  std::map<uint32_t, std::pair<uint32_t, int>> begins_;  // seed: another, and blocks of it
};

Backend CpuBackend(const Model& model, int threads) {
  return {OpenCpuDevice({model.numerics, threads, ""}).value(), model};
}
Backend RefBackend(const Model& model) { return {OpenRefDevice({model.numerics, 1, ""}), model}; }

double WorstDifference(const std::vector<std::vector<float>>& a,
                       const std::vector<std::vector<float>>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t t = 0; t < a.size(); ++t) {
    for (size_t i = 0; i < a[t].size(); ++i) {
      const double difference = std::fabs(static_cast<double>(a[t][i]) - b[t][i]);
      if (!(difference <= worst)) worst = difference;
    }
  }
  return worst;
}

/// Of differences from the plain backend: a K that the two round apart by one float32 ulp may land
/// on the other bf16 or code.
double Limit(DType kv_dtype) {
  return kv_dtype == DType::kF32    ? 2e-5
         : kv_dtype == DType::kBF16 ? 2e-3
         : kv_dtype == DType::kI8   ? 6e-3
                                    : 3e-2;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}
bool SameBits(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(),
                    [](const auto& x, const auto& y) { return SameBits(x, y); });
}

TEST_CASE("norms, RoPE, KV append and attention match the plain backend") {
  if (cpu::DetectIsa() == cpu::Isa::kNone) return;
#if defined(__SANITIZE_THREAD__)
  const auto types = {DType::kBF16, DType::kI8};
#else
  const auto types = {DType::kF32, DType::kBF16, DType::kI8, DType::kF8E4M3};
#endif
  for (const DType kv_dtype : types) {
    for (const bool interleaved : {false, true}) {
      for (const bool qk_norm : {false, true}) {
        for (const auto& [head_dim, rotary_dim] :
             {std::pair{32, 32}, {20, 20}, {24, 8}, {80, 40}, {64, 0}}) {
          Model model;
          model.head_dim = head_dim;
          model.rotary_dim = rotary_dim;
          model.interleaved = interleaved;
          model.qk_norm = qk_norm;
          model.kv_dtype = kv_dtype;
          model.window = head_dim == 24 ? 33 : 0;
          INFO("head_dim " << head_dim << " rotary " << rotary_dim << " interleaved " << interleaved
                           << " qk_norm " << qk_norm << " " << TraitsOf(kv_dtype).name);
          Backend cpu = CpuBackend(model, 2), ref = RefBackend(model);
          const std::vector<Chunk> prompts{{1, 0, 70}, {2, 0, 1}, {3, 0, 33}};
          const double limit = Limit(kv_dtype);
          CHECK(WorstDifference(cpu.Step(prompts), ref.Step(prompts)) < limit);
          const std::vector<Chunk> mixed{{3, 33, 1}, {1, 70, 9}, {2, 1, 1}, {4, 0, 5}};
          CHECK(WorstDifference(cpu.Step(mixed), ref.Step(mixed)) < limit);
        }
      }
    }
  }
}

TEST_CASE("a row's bits do not depend on batch, chunks or workers") {
  if (cpu::DetectIsa() == cpu::Isa::kNone) return;
#if defined(__SANITIZE_THREAD__)
  const DType kv_dtype = GENERATE(DType::kBF16, DType::kI8);
#else
  const DType kv_dtype = GENERATE(DType::kBF16, DType::kI8, DType::kF8E4M3);
#endif
  for (const bool int8 : {false, true}) {
    for (const int head_dim : {32, 48}) {  // 48 x 3: int8 groups straddle KV heads
      for (const int window : {0, 40}) {
        Model model;
        model.kv_dtype = kv_dtype;
        model.head_dim = head_dim;
        model.rotary_dim = head_dim;
        model.window = window;
        model.int8_consumer = int8;
        model.numerics = int8 ? Numerics::kInt8 : Numerics::kExact;
        INFO("int8 " << int8 << " head_dim " << head_dim << " window " << window);
        constexpr int kLength = 600;
        const auto whole = CpuBackend(model, 1).Whole(1, kLength, kLength);
        for (const int threads : {1, 2, 3}) {
          for (const int chunk : {7, 32, kLength}) {
            INFO("threads " << threads << " chunk " << chunk);
            CHECK(SameBits(whole, CpuBackend(model, threads).Whole(1, kLength, chunk)));
          }
        }
        Backend crowd = CpuBackend(model, 2);
        crowd.Step({{1, 0, 590}, {2, 0, 100}, {3, 0, 299}});
        for (int t = 590; t < kLength; ++t) {
          const auto rows =
              crowd.Step({{2, t - 490, 1}, {1, t, 1}, {3, t - 291, 1}, {4, 3 * (t - 590), 3}});
          CHECK(SameBits(rows[1], whole[static_cast<size_t>(t)]));
        }
        // Alone, one token at a time, long enough to be split over pieces and workers.
        Backend alone = CpuBackend(model, 2);
        alone.Append({{1, 0, 590}});
        for (int t = 590; t < kLength; ++t) {
          CHECK(SameBits(alone.Step({{1, t, 1}})[0], whole[static_cast<size_t>(t)]));
        }
      }
    }
  }
}

/// The device as level kAmx has it, over the scalar twins of its tiles. blocks: whole blocks of
/// rows are written as tiles by those who attend them.
Backend TilesBackend(const Model& model, int threads, bool blocks = true) {
  static const cpu::LinearKernels linear = {cpu::Int8KernelsAvx2(), cpu::FloatKernelsAvx2(),
                                            cpu::Bf16TileKernelsTwin()};
  static const cpu::AttentionKernels attention = cpu::AttentionKernelsTwin();
  static const cpu::AttentionKernels row_by_row = [] {
    cpu::AttentionKernels kernels = cpu::AttentionKernelsTwin();
    kernels.writes_blocks = false;
    return kernels;
  }();
  return {std::make_unique<cpu::CpuDevice>(cpu::Isa::kAvx2, model.numerics, threads, linear,
                                           blocks ? attention : row_by_row),
          model};
}

TEST_CASE("on tiles whole blocks of rows are what rows one by one are") {
  if (cpu::DetectIsa() == cpu::Isa::kNone) return;
  const auto [head_dim, kv_heads, kv_dtype, window] =
      GENERATE(table<int, int, DType, int>({{32, 1, DType::kBF16, 0},
                                            {64, 3, DType::kI8, 0},
                                            {96, 1, DType::kF8E4M3, 0},
                                            {64, 1, DType::kBF16, 40},
                                            {128, 3, DType::kI8, 40},
                                            {288, 1, DType::kBF16, 0}}));  // the last has none
  Model model;
  model.numerics = Numerics::kBf16;
  model.num_heads = 3;
  model.num_kv_heads = kv_heads;
  model.head_dim = model.rotary_dim = head_dim;
  model.kv_dtype = kv_dtype;
  model.window = window;
  INFO("head " << model.head_dim << " kv " << TraitsOf(model.kv_dtype).name << " window "
               << model.window << " kv heads " << model.num_kv_heads);
  for (const int threads : {1, 2}) {
    Backend blocks = TilesBackend(model, threads), rows = TilesBackend(model, threads, false);
    const std::vector<std::vector<Chunk>> steps = {
        {{1, 0, 300}},                                      // over a piece, the last block short
        {{1, 300, 16}},                                     // one block
        {{1, 316, 1}},                                      //
        {{2, 0, 33}, {1, 317, 1}, {3, 0, 15}, {4, 0, 90}},  // blocks of several, and of one
        {{4, 90, 70}, {2, 33, 2}}};
    for (const auto& step : steps) CHECK(SameBits(blocks.Step(step), rows.Step(step)));
  }
}

TEST_CASE("on tiles a row's bits do not depend on batch, chunks or workers either") {
  if (cpu::DetectIsa() == cpu::Isa::kNone) return;
  const bool int8 = GENERATE(false, true);
  const int window = GENERATE(0, 40);
  Model model;
  model.num_heads = 3;
  model.num_kv_heads = 1;
  model.head_dim = model.rotary_dim = int8 ? 32 : 48;
  model.window = window;
  model.int8_consumer = int8;
  model.numerics = int8 ? Numerics::kInt8 : Numerics::kBf16;
  INFO("int8 " << int8 << " window " << window);
  constexpr int kLength = 280;  // over the border of two pieces
  const auto whole = TilesBackend(model, 1).Whole(1, kLength, kLength);
  // Queries, probabilities and, for a bf16 consumer, the outputs are rounded to bf16.
  CHECK(WorstDifference(whole, RefBackend(model).Whole(1, kLength, kLength)) < 3e-2);
  for (const int threads : {1, 2}) {
    for (const int chunk : {7, 32, kLength}) {
      INFO("threads " << threads << " chunk " << chunk);
      CHECK(SameBits(whole, TilesBackend(model, threads).Whole(1, kLength, chunk)));
    }
  }
  Backend crowd = TilesBackend(model, 2), alone = TilesBackend(model, 2);
  crowd.Step({{1, 0, 270}, {2, 0, 50}});
  alone.Append({{1, 0, 270}});
  for (int t = 270; t < kLength; ++t) {
    const auto rows = crowd.Step({{2, t - 220, 1}, {1, t, 1}, {4, 3 * (t - 270), 3}});
    CHECK(SameBits(rows[1], whole[static_cast<size_t>(t)]));
    CHECK(SameBits(alone.Step({{1, t, 1}})[0], whole[static_cast<size_t>(t)]));
  }
}

/// Devices of every level there is, by name.
std::vector<std::string> Levels() {
  std::vector<std::string> levels;
  const cpu::Isa best = cpu::DetectIsa();
  if (best >= cpu::Isa::kAvx2) levels.insert(levels.end(), {"tiles twin", "avx2"});
#if defined(MODU_HAVE_EMULATED)
  if (best >= cpu::Isa::kAvx2) levels.insert(levels.end(), {"emulated", "emulated avx512bf16"});
#endif
  if (best >= cpu::Isa::kAvx512) levels.emplace_back("avx512");
  if (cpu::MissingFor(cpu::Isa::kAvx512Bf16, cpu::ReadMachine()).empty()) {
    levels.emplace_back("avx512bf16");
  }
  if (best >= cpu::Isa::kAmx) levels.emplace_back("amx");
  return levels;
}

Backend BackendOf(const std::string& level, const Model& model, int threads) {
  if (level == "tiles twin") return TilesBackend(model, threads);
#if defined(MODU_HAVE_EMULATED)
  static const cpu::LinearKernels linear = {cpu::Int8KernelsAvx2(), cpu::FloatKernelsAvx2(), {}};
  static const cpu::AttentionKernels dots = cpu::DotAttentionEmulated();
  if (level.starts_with("emulated")) {
    return {std::make_unique<cpu::CpuDevice>(cpu::Isa::kAvx2, model.numerics, threads, linear,
                                             level == "emulated" ? cpu::kAttentionEmulated : dots),
            model};
  }
#endif
  return {OpenCpuDevice({model.numerics, threads, level}).value(), model};
}

TEST_CASE(
    "on tiles int8 KV is read as it lies by rows that int8 products follow, else written out") {
  if (cpu::DetectIsa() == cpu::Isa::kNone) return;
  Model model;
  model.num_heads = 3;
  model.num_kv_heads = 1;
  model.head_dim = model.rotary_dim = 32;
  model.kv_dtype = DType::kI8;
  model.int8_consumer = true;
  model.numerics = Numerics::kInt8;
  constexpr int kLength = 280;
  const auto whole = [&](const std::string& level) {
    return BackendOf(level, model, 2).Whole(1, kLength, kLength);
  };
  CHECK(SameBits(whole("tiles twin"), whole("avx2")));
  model.int8_consumer = false;
  model.numerics = Numerics::kBf16;
  const auto written_out = whole("tiles twin"), vectors = whole("avx2");
  CHECK_FALSE(SameBits(written_out, vectors));  // queries and probabilities in bf16
  CHECK(WorstDifference(written_out, vectors) < 3e-2);
}

TEST_CASE("rows of sequences that begin with the same blocks have the bits that they have alone") {
  const auto levels = Levels();
  struct Shape {
    int num_heads, num_kv_heads, head_dim;
    DType kv_dtype;
    bool int8_output = false;
  };
  // More rows than a tile has, a KV head for each query head, one for all, odd dims; rows that are
  // finished by whoever writes their last head.
  const Shape shapes[] = {{6, 2, 32, DType::kBF16},     {2, 2, 48, DType::kBF16},
                          {8, 1, 64, DType::kBF16},     {3, 1, 20, DType::kF32},
                          {6, 2, 32, DType::kI8},       {3, 1, 96, DType::kI8},
                          {6, 2, 32, DType::kI8, true}, {8, 1, 32, DType::kF8E4M3}};
  unsigned seed = 0;
  for (const std::string& level : levels) {
    for (const Shape& shape : shapes) {
      if (level.starts_with("emulated") && shape.head_dim > 32) continue;  // slow
      // Slow, and by way of kernels that are tried already.
      if (level == "emulated" && IsKvCode(shape.kv_dtype)) continue;
      if (level == "emulated avx512bf16" && shape.kv_dtype != DType::kI8) continue;
      if (level == "tiles twin" && shape.int8_output) continue;
      Model model;
      model.num_heads = shape.num_heads;
      model.num_kv_heads = shape.num_kv_heads;
      model.head_dim = model.rotary_dim = shape.head_dim;
      model.kv_dtype = shape.kv_dtype;
      model.numerics = shape.kv_dtype == DType::kF32 ? Numerics::kExact
                       : shape.int8_output           ? Numerics::kInt8
                                                     : Numerics::kBf16;
      model.window = ++seed % 4 == 0 ? 300 : 0;
      std::mt19937 random(seed);
      const auto between = [&](int lo, int hi) {
        return lo + static_cast<int>(random() % static_cast<unsigned>(hi - lo + 1));
      };
      INFO(level << " heads " << shape.num_heads << " of " << shape.num_kv_heads << " head_dim "
                 << shape.head_dim << " window " << model.window);
      // A tree of prompts: some branch behind the first piece, some before it, some nowhere.
      struct Sequence {
        uint32_t seed;
        int length;
        int shared;  // tokens
      };
      std::vector<Sequence> sequences = {{1, 620, 0}};
      std::vector<std::array<uint32_t, 3>> shares;
      for (uint32_t s = 2; s <= 6; ++s) {
        const auto other = sequences[static_cast<size_t>(between(0, static_cast<int>(s) - 2))];
        const int blocks = std::min(other.length / 32, between(0, 4) > 0 ? between(7, 20) : 0);
        sequences.push_back({s, blocks * 32 + between(1, 90), blocks * 32});
        shares.push_back({s, other.seed, static_cast<uint32_t>(blocks)});
      }
      const int threads = between(1, 2);
      Backend crowd = BackendOf(level, model, threads);
      for (const auto& [s, other, blocks] : shares) {
        crowd.Share(s, other, static_cast<int>(blocks));
      }
      for (const Sequence& s : sequences) crowd.Append({{s.seed, s.shared, s.length - s.shared}});
      std::vector<std::vector<std::vector<float>>> rows(sequences.size());
      constexpr int kSteps = 2;
      for (int step = 0; step < kSteps; ++step) {
        std::vector<size_t> order(sequences.size());
        for (size_t i = 0; i < order.size(); ++i) order[i] = i;
        std::shuffle(order.begin(), order.end(), random);
        std::vector<Chunk> chunks;
        // One of them has more than one row in a step.
        for (size_t i : order) {
          chunks.push_back({sequences[i].seed, sequences[i].length + (i == 3 ? 3 * step : step),
                            i == 3 ? 3 : 1});
        }
        const auto stepped = crowd.Step(chunks);
        auto got = stepped.begin();
        for (size_t i : order) {
          for (int t = 0; t < (i == 3 ? 3 : 1); ++t) rows[i].push_back(*got++);
        }
      }
      for (size_t i = 0; i < sequences.size(); ++i) {
        Backend alone = BackendOf(level, model, 1);
        for (const auto& [s, other, blocks] : shares) {
          alone.Share(s, other, static_cast<int>(blocks));
        }
        const uint32_t s = sequences[i].seed;
        alone.Append({{s, 0, sequences[i].length}});
        INFO("sequence " << i << " of " << sequences[i].length << " tokens, " << sequences[i].shared
                         << " of them another's");
        for (size_t t = 0; t < rows[i].size(); ++t) {
          const auto expected = alone.Step({{s, sequences[i].length + static_cast<int>(t), 1}});
          CHECK(SameBits(rows[i][t], expected[0]));
        }
      }
      // Bits that are the same may be the same garbage.
      Backend ref = RefBackend(model);
      ref.Append({{1, 0, sequences[0].length}});
      const auto plain = ref.Step({{1, sequences[0].length, kSteps}});
      CHECK(WorstDifference(rows[0], plain) < Limit(shape.kv_dtype));
    }
  }
}

TEST_CASE("RoPE angles hold at far positions") {
  if (cpu::DetectIsa() == cpu::Isa::kNone) return;
  const auto device = OpenCpuDevice({Numerics::kExact, 1, ""}).value();
  const int32_t positions[] = {0, 1, 4095, 131071};
  const float inv_freq[] = {1.0f, 0.31622776f, 1e-4f};
  float table[4 * 6];
  device->ops().rope_table(*device, {4, positions, 6, inv_freq, 1.25f, table});
  for (int t = 0; t < 4; ++t) {
    for (int i = 0; i < 3; ++i) {
      const long double angle = static_cast<long double>(positions[t]) * inv_freq[i];
      CHECK(std::fabs(table[t * 6 + i] - static_cast<double>(1.25L * std::cos(angle))) < 2e-7);
      CHECK(std::fabs(table[t * 6 + 3 + i] - static_cast<double>(1.25L * std::sin(angle))) < 2e-7);
    }
  }
}

TEST_CASE("RMS norm matches the plain backend for every width, gathers rows and passes through") {
  if (cpu::DetectIsa() == cpu::Isa::kNone) return;
  for (const int width : {16, 20, 48, 64, 80, 576, 1000}) {
    std::mt19937 random(static_cast<uint32_t>(width));
    std::normal_distribution<float> normal;
    std::vector<float> hidden(static_cast<size_t>(9 * width)), weight(static_cast<size_t>(width)),
        identity(static_cast<size_t>(width) * width);
    for (float& x : hidden) x = 3 * normal(random);
    for (float& x : weight) x = 1 + 0.1f * normal(random);
    for (int n = 0; n < width; ++n) identity[static_cast<size_t>(n) * width + n] = 1.0f;
    const WeightSource source{DType::kF32, width, width,
                              reinterpret_cast<const std::byte*>(identity.data())};
    const int32_t rows[] = {8, 0, 5, 5};
    std::vector<std::vector<float>> results;
    for (const bool ref : {true, false}) {
      const auto device = ref ? OpenRefDevice({Numerics::kExact})
                              : OpenCpuDevice({Numerics::kExact, 2, ""}).value();
      const auto consumer = device->Pack({&source, 1}, WeightUse::kLinear).value();
      const auto prepared = device->Allocate(device->PreparedBytes(*consumer, 9));
      std::vector<float> all;
      const auto run = [&](int count, const int32_t* from, const float* w) {
        device->ops().norm(
            *device,
            {count, width, hidden.data(), from, w, 1e-5f, consumer.get(), {prepared->data()}});
        std::vector<float> out(static_cast<size_t>(count * width));
        device->ops().linear(
            *device,
            {count, {prepared->data()}, consumer.get(), nullptr, false, out.data(), width});
        all.insert(all.end(), out.begin(), out.end());
      };
      run(9, nullptr, weight.data());
      run(4, rows, weight.data());
      run(9, nullptr, nullptr);
      results.push_back(all);
    }
    INFO("width " << width);
    for (size_t i = 0; i < results[0].size(); ++i) {
      REQUIRE(std::fabs(results[0][i] - results[1][i]) <= 1e-6 + 1e-6 * std::fabs(results[0][i]));
    }
  }
}

TEST_CASE("KV memory beyond the address space is refused by an exception", "[kernels]") {
  const auto device = OpenCpuDevice({Numerics::kExact, 1, ""}).value();
  const KvLayout layout{1, 1, 64, device->KvBlockSize(), DType::kF32};
  const int64_t blocks = (int64_t{1} << 60) / device->KvBlockBytes(layout);
  REQUIRE_THROWS_AS(device->CreateKvCache(layout, blocks), std::bad_alloc);
}

}  // namespace
}  // namespace modu::kernels
