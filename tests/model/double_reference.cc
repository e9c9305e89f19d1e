#include "tests/model/double_reference.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

namespace modu::tests {
namespace {

using Row = std::vector<double>;

class Reference {
 public:
  explicit Reference(const SmallModel& model) : m_(model) {
    for (const NamedTensor& tensor : model.tensors) by_name_[tensor.name] = &tensor;
  }

  std::vector<Row> Run(const std::vector<int32_t>& ids, const std::vector<int>& windows) {
    std::vector<Row> x;
    const NamedTensor& table = *by_name_.at("model.embed_tokens.weight");
    for (const int32_t id : ids) {
      const auto begin = table.values.begin() + static_cast<int64_t>(id) * m_.hidden;
      x.emplace_back(begin, begin + m_.hidden);
    }
    for (int i = 0; i < m_.layers; ++i) Layer(i, windows[static_cast<size_t>(i)], &x);
    std::vector<Row> out;
    for (const Row& row : x) {
      Row logits = Linear(m_.tied ? "model.embed_tokens" : "lm_head", Norm("model.norm", row));
      const double largest = *std::max_element(logits.begin(), logits.end());
      double sum = 0;
      for (const double v : logits) sum += std::exp(v - largest);
      for (double& v : logits) v -= largest + std::log(sum);
      out.push_back(std::move(logits));
    }
    return out;
  }

 private:
  Row Norm(const std::string& name, const Row& x) const {
    const std::vector<float>& weight = by_name_.at(name + ".weight")->values;
    double squares = 0;
    for (const double v : x) squares += v * v;
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(x.size()) + 1e-5);
    Row out(x.size());
    for (size_t i = 0; i < x.size(); ++i) out[i] = x[i] * inverse * weight[i];
    return out;
  }

  Row Linear(const std::string& name, const Row& x) const {
    const NamedTensor& weight = *by_name_.at(name + ".weight");
    const auto bias = by_name_.find(name + ".bias");
    Row out;
    for (int64_t r = 0; r < weight.shape[0]; ++r) {
      double sum = bias == by_name_.end() ? 0 : bias->second->values[static_cast<size_t>(r)];
      for (size_t c = 0; c < x.size(); ++c) {
        sum += weight.values[static_cast<size_t>(r) * x.size() + c] * x[c];
      }
      out.push_back(sum);
    }
    return out;
  }

  /// Head `head` of a projection's row: QK-norm where the model has it, then RoPE.
  Row Head(const std::string& norm, const Row& row, int head, int position) const {
    const auto d = static_cast<size_t>(m_.head_dim);
    Row h(row.begin() + head * m_.head_dim, row.begin() + (head + 1) * m_.head_dim);
    if (m_.qk_norm) h = Norm(norm, h);
    Row out(d);
    for (size_t i = 0; i < d / 2; ++i) {
      const double angle =
          position * std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(d));
      out[i] = h[i] * std::cos(angle) - h[i + d / 2] * std::sin(angle);
      out[i + d / 2] = h[i + d / 2] * std::cos(angle) + h[i] * std::sin(angle);
    }
    return out;
  }

  void Layer(int index, int window, std::vector<Row>* x) {
    const std::string layer = "model.layers." + std::to_string(index) + ".";
    const std::string attn = layer + "self_attn.", mlp = layer + "mlp.";
    std::vector<Row> q, k, v;
    for (const Row& row : *x) {
      const Row in = Norm(layer + "input_layernorm", row);
      q.push_back(Linear(attn + "q_proj", in));
      k.push_back(Linear(attn + "k_proj", in));
      v.push_back(Linear(attn + "v_proj", in));
    }
    for (size_t t = x->size(); t-- > 0;) {
      const Row attended =
          Linear(attn + "o_proj", Attend(attn, window, static_cast<int>(t), q, k, v));
      Row& row = (*x)[t];
      for (size_t i = 0; i < row.size(); ++i) row[i] += attended[i];
      const Row in = Norm(layer + "post_attention_layernorm", row);
      Row gate = Linear(mlp + "gate_proj", in);
      const Row up = Linear(mlp + "up_proj", in);
      for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
      const Row down = Linear(mlp + "down_proj", gate);
      for (size_t i = 0; i < row.size(); ++i) row[i] += down[i];
    }
  }

  Row Attend(const std::string& attn, int window, int t, const std::vector<Row>& q,
             const std::vector<Row>& k, const std::vector<Row>& v) const {
    Row out;
    const int first = window == 0 ? 0 : std::max(0, t - window + 1);
    for (int head = 0; head < m_.heads; ++head) {
      const int kv_head = head / (m_.heads / m_.kv_heads);
      const Row query = Head(attn + "q_norm", q[static_cast<size_t>(t)], head, t);
      Row weights;
      double sum = 0;
      for (int s = first; s <= t; ++s) {
        const Row key = Head(attn + "k_norm", k[static_cast<size_t>(s)], kv_head, s);
        double dot = 0;
        for (size_t i = 0; i < key.size(); ++i) dot += query[i] * key[i];
        weights.push_back(std::exp(dot / std::sqrt(static_cast<double>(m_.head_dim))));
        sum += weights.back();
      }
      for (int i = 0; i < m_.head_dim; ++i) {
        double value = 0;
        for (int s = first; s <= t; ++s) {
          value += weights[static_cast<size_t>(s - first)] *
                   v[static_cast<size_t>(s)][static_cast<size_t>(kv_head * m_.head_dim + i)];
        }
        out.push_back(value / sum);
      }
    }
    return out;
  }

  const SmallModel& m_;
  std::map<std::string, const NamedTensor*> by_name_;
};

}  // namespace

std::vector<std::vector<double>> DoubleLogprobs(const SmallModel& model,
                                                const std::vector<int32_t>& ids,
                                                const std::vector<int>& windows) {
  return Reference(model).Run(ids, windows);
}

}  // namespace modu::tests
