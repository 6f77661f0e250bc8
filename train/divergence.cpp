#include "train/divergence.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "autograd/tape.h"
#include "data/draw.h"
#include "tensor/error.h"

namespace glia {
namespace {

constexpr size_t ops_told = 5;
constexpr const char* precision_names[] = {"exact", "fp32", "tf32", "bf16"};

// Index of the first element that is not finite; -1 when all are.
int64_t first_bad(const Tensor& t) {
  const auto scan = [&](auto values) {
    for (size_t i = 0; i < values.size(); ++i)
      if (!std::isfinite(values[i])) return static_cast<int64_t>(i);
    return int64_t(-1);
  };
  if (!t || !is_floating(t.dtype())) return -1;
  const Tensor host = t.to(Device{});
  if (host.dtype() == DType::float32) return scan(host.values<float>());
  if (host.dtype() == DType::float64) return scan(host.values<double>());
  return -1;
}

double value_at(const Tensor& t, int64_t i) { return t.reshape({t.size()}).slice(i, i + 1).item(); }

std::string number_text(double value) { return std::isnan(value) ? "nan" : fmt::format("{:.6g}", value); }

// Largest absolute value of finite numbers.
double largest(const Tensor& t) {
  double result = 0;
  const auto scan = [&](auto values) {
    for (const auto v : values) result = std::max(result, std::abs(static_cast<double>(v)));
  };
  if (!t || !is_floating(t.dtype())) return result;
  const Tensor host = t.to(Device{});
  if (host.dtype() == DType::float32) scan(host.values<float>());
  if (host.dtype() == DType::float64) scan(host.values<double>());
  return result;
}

// Remembers the first op whose result is not finite, and the parameter it worked with: that names the layer.
class FirstBad : public OpObserver {
 public:
  explicit FirstBad(Module& model) {
    for (const NamedTensor& p : model.parameters())
      if (p.tensor->grad_record()) names_[p.tensor->grad_record().get()] = p.name;
  }

  void after_forward(const char* op, std::span<const Tensor> inputs, const Tensor& output) override {
    std::vector<const GradRecord*> records;
    for (const Tensor& t : inputs) records.push_back(t.grad_record().get());
    look(op, "the output of", "forward", records, output);
  }
  void after_backward(const Node& node, std::span<const Tensor> gradients) override {
    std::vector<const GradRecord*> records;
    for (const auto& r : node.inputs) records.push_back(r.get());
    std::string_view op = node.name;  // "conv2d_backward"
    if (op.ends_with("_backward")) op.remove_suffix(9);
    for (const Tensor& g : gradients) look(op, "a gradient from", "backward", records, g);
  }

  std::string found;
  std::vector<std::string> last;  // of the last ops before it: "conv2d with conv1.weight: 3.2"

 private:
  void look(std::string_view op, const char* what, const char* pass, const std::vector<const GradRecord*>& records,
            const Tensor& t) {
    if (!found.empty()) return;
    std::string with;
    for (const GradRecord* r : records) {
      const auto it = names_.find(r);
      if (it != names_.end()) with += (with.empty() ? " with " : ", ") + it->second;
    }
    const int64_t i = first_bad(t);
    if (i < 0) {
      last.push_back(fmt::format("{}{} ({}): {:.3g}", op, with, pass, largest(t)));
      if (last.size() > ops_told) last.erase(last.begin());
      return;
    }
    found =
        fmt::format("{} {}{} ({}), shape {}: element {} is {}", what, op, with, pass, t.shape(), i, number_text(value_at(t, i)));
  }

  std::map<const GradRecord*, std::string> names_;
};

constexpr size_t images_shown = 16;

}  // namespace

Tensor picture_with_bad_pixels(const Tensor& images, int64_t n) {
  const Tensor image =
      images.slice(n, n + 1).to(Device{}).cast(DType::float32).clone().reshape({images.dim(1), images.dim(2), images.dim(3)});
  const int64_t channels = image.dim(2), pixels = image.dim(0) * image.dim(1);
  std::vector<int64_t> bad;
  for (int64_t i = 0; i < image.size(); ++i) {
    float& v = image.data<float>()[i];
    if (std::isfinite(v)) continue;
    v = 0;
    bad.push_back(i / channels);
  }
  const Tensor picture = to_picture(image);
  GLIA_CHECK(picture.size() == 3 * pixels, "a picture {} of an image {}", picture.shape(), image.shape());
  for (const int64_t i : bad) {
    constexpr uint8_t red[] = {255, 0, 0};
    std::copy_n(red, 3, picture.data<uint8_t>() + 3 * i);
  }
  return picture;
}

Divergence::Divergence(Trainer& trainer, const StepRecord& record, const std::vector<Batch>& batches)
    : trainer_(trainer), record_(record), batches_(batches) {}

std::string Divergence::bad_parameter() {
  for (const auto& named : {trainer_.model().parameters(), trainer_.model().buffers()})
    for (const NamedTensor& t : named)
      if (first_bad(*t.tensor) >= 0) return t.name;
  return "";
}

std::string Divergence::bad_input() {
  for (const Batch& batch : batches_) {
    for (size_t k = 0; k < batch.tensors.size(); ++k) {
      const Tensor& t = batch.tensors[k];
      const int64_t i = first_bad(t);
      if (i < 0) continue;
      const int64_t n = static_cast<int64_t>(batch.examples.size());
      if (t.rank() < 1 || t.dim(0) != n) return fmt::format("tensor {} of the batch", k);
      return fmt::format("image {} (tensor {} of the batch)", batch.examples[size_t(i / (t.size() / n))].id, k);
    }
  }
  return "";
}

std::string Divergence::bad_op() {
  trainer_.optimizer().zero_grad();
  FirstBad observer(trainer_.model());
  std::string otherwise;
  for (size_t i = 0; i < batches_.size() && observer.found.empty(); ++i) {
    try {
      const NamedLosses losses = trainer_.losses_of(batches_[i], static_cast<int64_t>(i));
      if (!observer.found.empty()) break;
      for (const auto& [name, loss] : losses)
        if (otherwise.empty() && !std::isfinite(loss.item())) otherwise = fmt::format("loss {}", name);
      if (!otherwise.empty()) break;
      backward(weighted_sum(losses, trainer_.options_.loss_weights));
    } catch (const DivergedError& e) {  // of a model that looks at its own numbers
      otherwise = e.what();
      break;
    }
  }
  last_ops_ = std::move(observer.last);
  return observer.found.empty() ? otherwise : observer.found;
}

bool Divergence::finite_in_float32() {
  if (precision() != Precision::tf32 && precision() != Precision::bf16) return false;
  const PrecisionScope scope(Precision::fp32);
  double loss = 0;
  trainer_.optimizer().zero_grad();
  try {
    for (size_t i = 0; i < batches_.size(); ++i) {
      const Tensor total = weighted_sum(trainer_.losses_of(batches_[i], static_cast<int64_t>(i)), trainer_.options_.loss_weights);
      loss += total.item();
      backward(total);
    }
  } catch (const DivergedError&) {
    return false;
  }
  return std::isfinite(loss) && std::isfinite(trainer_.optimizer().grad_norm());
}

std::string Divergence::causes(const std::string& parameter, const std::string& input, const std::string& op) {
  std::vector<std::string> lines;
  if (!input.empty()) lines.push_back(fmt::format("{} holds numbers that are not finite: look at its file", input));
  if (!parameter.empty()) lines.push_back(fmt::format("{} was not finite before the step: bad initial weights", parameter));
  if (lines.empty() && finite_in_float32())
    lines.push_back(fmt::format("{} holds too few digits here, in float32 the same step is finite: set run.precision = \"fp32\"",
                                precision() == Precision::bf16 ? "bf16" : "tf32"));
  const std::vector<double>& norms = trainer_.recent_norms_;
  if (norms.size() >= 2) {
    std::vector<double> sorted = norms;
    std::sort(sorted.begin(), sorted.end());
    const double median = sorted[sorted.size() / 2];
    if (norms.back() > 10 * median)
      lines.push_back(
          fmt::format("the gradient grew {:.0f} times over its median: lower solver.lr ({:g}), or set solver.clip_norm",
                      norms.back() / std::max(median, 1e-300), record_.lr));
  }
  if (lines.empty()) {
    if (op.find("(backward)") != std::string::npos)
      lines.push_back("an operation whose derivative is infinite where it was used, such as a root or a logarithm at 0");
    for (const std::string_view name : {"log (forward)", "sqrt (forward)", "div (forward)", "exp (forward)"})
      if (op.find(name) != std::string::npos)
        lines.push_back(
            "an operation that has no value where it was used, such as a logarithm or a root of a negative number, a division by "
            "0, "
            "or an exponential above 88");
    lines.push_back(fmt::format("the learning rate {:g} is too high for batches of {}: lower solver.lr, or set solver.clip_norm",
                                record_.lr, record_.images));
  }
  return fmt::format("  likely cause: {}", fmt::join(lines, "\n  or: "));
}

std::string Divergence::report() {
  const std::string parameter = bad_parameter(), input = bad_input();
  std::string op = bad_op();
  const bool in_loss = !std::isfinite(record_.loss);
  std::string text =
      fmt::format("step {}: the {} is not finite ({}); the update was not applied and the weights are as before\n", record_.step,
                  in_loss ? "loss" : "gradient", number_text(in_loss ? record_.loss : record_.grad_norm));
  if (!parameter.empty()) op = fmt::format("parameter {}, before the step", parameter);
  if (!input.empty()) op = fmt::format("{}, before the step", input);
  text += fmt::format("  first tensor that is not finite: {}\n", op.empty() ? "none when the step was run again" : op);
  std::vector<std::string> terms, images;
  for (const auto& [name, value] : record_.terms) terms.push_back(fmt::format("{} {}", name, number_text(value)));
  for (const Batch& batch : batches_)
    for (const Example& e : batch.examples) images.push_back(e.id);
  text +=
      fmt::format("  loss terms: {}\n  images: {} (epoch {})\n", fmt::join(terms, ", "), fmt::join(images, ", "), record_.epoch);
  text += fmt::format("  learning rate {:g}; gradient norms of the steps before: {}\n", record_.lr, norms_text(5));
  text += causes(parameter, input, op);
  details_ = text + "\n" + more();
  return text;
}

Tensor Divergence::picture() const {
  std::vector<Panel> panels;
  for (const Batch& batch : batches_) {
    const auto count = static_cast<int64_t>(batch.examples.size());
    if (batch.tensors.empty() || batch.tensors[0].rank() != 4 || batch.tensors[0].dim(0) != count || batch.tensors[0].size() == 0)
      continue;
    for (int64_t n = 0; n < count && panels.size() < images_shown; ++n)
      panels.push_back({picture_with_bad_pixels(batch.tensors[0], n), batch.examples[static_cast<size_t>(n)].id});
  }
  return panels.empty() ? Tensor() : mosaic(panels, {.title = fmt::format("step {}, as the network got it", record_.step)});
}

std::string Divergence::norms_text(size_t count) const {
  const std::vector<double>& all = trainer_.recent_norms_;
  std::vector<std::string> norms;
  for (size_t i = all.size() - std::min(all.size(), count); i < all.size(); ++i) norms.push_back(fmt::format("{:.3g}", all[i]));
  return norms.empty() ? "none" : fmt::format("{}", fmt::join(norms, ", "));
}

std::string Divergence::more() const {
  const uint64_t seed = trainer_.options_.seed;
  std::string text = fmt::format("\nLargest absolute values of the last {} operations before it\n  {}\n", last_ops_.size(),
                                 fmt::join(last_ops_, "\n  "));
  text += fmt::format("\nGradient norms of the {} steps before, oldest first\n  {}\n", trainer_.recent_norms_.size(),
                      norms_text(trainer_.recent_norms_.size()));
  text += "\nImages, with the three numbers that the random numbers of their augmentation are made of\n";
  for (const Batch& batch : batches_)
    for (const Example& e : batch.examples)
      text += fmt::format("  {}: seed {}, epoch {}, index {}\n", e.id, seed, batch.epoch, e.index);
  for (size_t i = 0; i < batches_.size(); ++i)
    text += fmt::format("Random numbers of the network (dropout, sampling): seed {}, step {}\n", seed,
                        trainer_.step_ * trainer_.options_.accumulate + static_cast<int64_t>(i));
  return text + fmt::format("Precision: {}; device: {}\n", precision_names[static_cast<size_t>(precision())],
                            to_string(trainer_.model().device()));
}

}  // namespace glia
