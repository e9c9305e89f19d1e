// A Device stands beside the op table (ops.h): it packs weights, owns KV memory and activation
// buffers, and says what the machine is. Two backends: ref (plain, double where it matters) and cpu
// (AVX2, AVX-512, AMX chosen at run time). One thread (the engine's) calls a Device; the backend's
// own workers are its affair. Nothing here throws; sizes have been validated by engine/checkpoint,
// so a mismatch is a CHECK; too little memory, or an instruction set that the
// machine lacks, is a Status.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"

namespace modu::kernels {

struct OpTable;

/// A matrix as a file holds it: rows are outputs (N), cols are inputs (K), row-major, rows
/// contiguous.
struct WeightSource {
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const std::byte* data = nullptr;
  const float* scales = nullptr;  // F8 only: 1 (tensor) or `rows` (channel) factors, or null
  int64_t num_scales = 0;
};

/// How the consumer op walks the matrix.
enum class WeightUse : uint8_t {
  kLinear,       // parts are stacked along the outputs: q|k|v becomes one matrix
  kGatedLinear,  // exactly two parts of equal shape, gate then up; the backend may interleave them
  kHead,         // output head, also read row by row by `embed` when the embedding is tied to it
  kTable,        // read row by row by `embed` alone
};

/// Whether `embed` reads it: rows come out exactly as the file has them.
constexpr bool ReadByRows(WeightUse use) {
  return use == WeightUse::kHead || use == WeightUse::kTable;
}

/// A matrix in the backend's own layout. Opaque to shared code.
class PackedWeight {
 public:
  virtual ~PackedWeight() = default;
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t bytes() const { return bytes_; }
  /// Of bytes(), those that a greedy row's products leave unread but for a few.
  int64_t spared_bytes() const { return spared_bytes_; }

 protected:
  int64_t rows_ = 0, cols_ = 0, bytes_ = 0, spared_bytes_ = 0;
};

/// Activations in the layout that the consuming PackedWeight chose. Opaque to shared code.
struct Prepared {
  std::byte* data = nullptr;
};

/// One cache group: layers with the same kind of KV.
struct KvLayout {
  int num_layers = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int block_size = 0;  // tokens a block; from Device::KvBlockSize
  DType dtype = DType::kBF16;
};

/// KV memory of one cache group: num_blocks blocks of block_size tokens, each for all layers of the
/// group.
class KvCache {
 public:
  virtual ~KvCache() = default;
  const KvLayout& layout() const { return layout_; }
  int64_t num_blocks() const { return num_blocks_; }
  int64_t bytes() const { return bytes_; }

 protected:
  KvLayout layout_;
  int64_t num_blocks_ = 0, bytes_ = 0;
};

/// Zeroed host or device memory, 64-byte aligned, freed with the handle.
class Buffer {
 public:
  virtual ~Buffer() = default;
  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  float* f32() const { return reinterpret_cast<float*>(data_); }
  int32_t* i32() const { return reinterpret_cast<int32_t*>(data_); }

 protected:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

struct DeviceOptions {
  std::optional<Numerics> numerics;  // none: what the machine is fastest with
  int num_threads = 0;               // 0: the CPU set and the cgroup's quota decide
  std::string isa;  // "", or ref|avx2|avx512|avx512bf16|amx: a test's or an operator's override
  bool packs_twice = true;  // numerics of none may be kPhased: quantised weights in two layouts
};

class Device {
 public:
  virtual ~Device() = default;

  virtual const OpTable& ops() const = 0;
  virtual std::string Describe() const = 0;  // e.g. "cpu avx2, 2 threads, int8"
  virtual Numerics numerics() const = 0;
  virtual int num_threads() const = 0;
  virtual int KvBlockSize() const = 0;
  /// Tokens of a step from which on a prompt is read no faster in larger ones: a pass over the
  /// weights is paid by many rows. How long a step may take is for others to say.
  virtual int BestStepTokens() const { return 512; }
  /// The KV type that its numerics are served with where none is asked for.
  virtual DType DefaultKvDType() const = 0;

  /// Packs for rows of that phase into the layout this device computes from; the sources may be
  /// freed afterwards. ResourceExhausted, naming need and limit, where the memory does not hold it.
  virtual absl::StatusOr<std::unique_ptr<PackedWeight>> Pack(std::span<const WeightSource> parts,
                                                             WeightUse use, Phase phase) = 0;
  /// Where phases do not matter.
  absl::StatusOr<std::unique_ptr<PackedWeight>> Pack(std::span<const WeightSource> parts,
                                                     WeightUse use) {
    return Pack(parts, use, Phase::kGeneration);
  }

  /// Bytes a Prepared for `consumer` needs at up to max_tokens rows.
  virtual size_t PreparedBytes(const PackedWeight& consumer, int max_tokens) const = 0;

  /// These two throw std::bad_alloc where the system does not give the memory.
  virtual std::unique_ptr<Buffer> Allocate(size_t bytes) = 0;
  virtual std::unique_ptr<KvCache> CreateKvCache(const KvLayout& layout, int64_t num_blocks) = 0;
  /// Bytes one block takes over all layers of the group, before anything is allocated.
  virtual int64_t KvBlockBytes(const KvLayout& layout) const = 0;

  /// A number that no batch of rows on this device has had: what layers with that batch share need
  /// be found once (AttentionParams::step). Of the device that ops are called with, between ops.
  virtual uint64_t NextStep() { return ++last_step_; }

  /// Calls task(context, i) once for each i in [0, n), spread over the workers; returns when all
  /// are done. For host work beside the ops (sampling). Order and thread are not specified.
  virtual void ParallelFor(int n, void (*task)(void* context, int i), void* context) = 0;

 private:
  uint64_t last_step_ = 0;
};

/// The memory that this process may use, in bytes: the machine's, or less where its control group
/// says so.
int64_t MemoryLimitBytes();

/// The plain backend: single thread, float64 sums, every op by its formula. The oracle of the
/// others.
std::unique_ptr<Device> OpenRefDevice(const DeviceOptions& options);
/// The x86 backend. Picks the instruction set by CPUID, XCR0 and arch_prctl unless options.isa says
/// otherwise: InvalidArgument, naming what is missing, where it cannot be had.
absl::StatusOr<std::unique_ptr<Device>> OpenCpuDevice(const DeviceOptions& options);

}  // namespace modu::kernels
