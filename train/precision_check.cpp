#include "train/precision_check.h"

#include <algorithm>
#include <cmath>

#include "autograd/tape.h"
#include "tensor/error.h"

namespace glia {
namespace {

// Rounding the factors of every product leaves losses this far apart at most, as a fraction of the larger of the loss, a tenth of all
// losses, and 0.1: about ten times what a UNet's first batch shows. A gradient has passed twice as many products.
struct Tolerance {
  double loss, norm;
};
Tolerance tolerance_of(Precision p) { return p == Precision::bf16 ? Tolerance{0.05, 0.15} : Tolerance{0.01, 0.03}; }

}  // namespace

PrecisionCheck::Measured PrecisionCheck::measure(const Batch& batch) {
  const std::vector<Tensor> buffers = trainer_.copy_buffers();
  Measured m;
  trainer_.model_->train();
  trainer_.optimizer_.zero_grad();
  const NamedLosses losses = trainer_.losses_of(batch, 0);
  const Tensor total = weighted_sum(losses, trainer_.options_.loss_weights);
  for (const auto& [name, loss] : losses)
    if (losses_.empty() || std::find(losses_.begin(), losses_.end(), name) != losses_.end())
      m.values.emplace_back("loss " + name, loss.item());
  m.total = total.item();
  if (!losses_.empty()) {
    trainer_.restore_buffers(buffers);
    return m;
  }
  m.values.emplace_back("the sum of the losses", m.total);
  backward(total);
  m.values.emplace_back("the gradient's norm", trainer_.optimizer_.grad_norm());
  trainer_.restore_buffers(buffers);
  return m;
}

std::string PrecisionCheck::run() {
  const Device device = trainer_.model_->device();
  const Precision p = precision();
  if (device.kind == DeviceKind::cpu || (p != Precision::tf32 && p != Precision::bf16)) return "";
  std::optional<Batch> batch = trainer_.loader_->next();
  GLIA_CHECK(batch, "trainer: the loader has no batch");
  for (Tensor& t : batch->tensors) t = t.to(device);
  const Measured got = measure(*batch);
  Measured want;
  {
    const PrecisionScope float32(Precision::fp32);
    const KernelChoiceScope by_hand(KernelChoice::hand);
    want = measure(*batch);
  }
  trainer_.seek_loader();

  const char* name = p == Precision::bf16 ? "bf16" : "tf32";
  const Tolerance tolerance = tolerance_of(p);
  double worst_loss = 0, norm_apart = 0;
  for (size_t i = 0; i < want.values.size(); ++i) {
    const auto& [what, expected] = want.values[i];
    if (!std::isfinite(expected)) return "";  // the first step tells
    const bool is_norm = losses_.empty() && i + 1 == want.values.size();
    const double scale = is_norm ? expected : std::max({std::abs(expected), 0.1 * std::abs(want.total), 0.1});
    const double computed = got.values[i].second, apart = std::abs(computed - expected);
    const double allowed = (is_norm ? tolerance.norm : tolerance.loss) * scale;
    if (!(apart <= allowed))  // NaN too
      throw DeviceError(
          "run.precision = \"{0}\" on {1} does not agree with float32: {2} of the first batch is {3}, in float32 {4:.6g} "
          "({5:.3g} "
          "apart, rounding explains {6:.3g}). Nothing was trained. Either a kernel is at fault on this GPU, or the model needs "
          "more digits than {0} holds: train with --set run.precision=fp32, try --kernels hand and --kernels vendor, or go on "
          "all the same with --set run.check_precision=false",
          name, to_string(device), what, std::isnan(computed) ? "nan" : fmt::format("{:.6g}", computed), expected, apart,
          allowed);
    (is_norm ? norm_apart : worst_loss) = std::max(is_norm ? 0 : worst_loss, scale > 0 ? apart / scale : 0);
  }
  std::string text = fmt::format("{} agrees with float32 on the first batch: losses to {:.2g} %", name, 100 * worst_loss);
  if (losses_.empty()) text += fmt::format(", the gradient's norm to {:.2g} %", 100 * norm_apart);
  return text;
}

}  // namespace glia
