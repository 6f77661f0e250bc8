#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "autograd/tape.h"
#include "tensor/error.h"
#include "train/divergence.h"
#include "train/early_stopping.h"

namespace glia {
namespace {

constexpr size_t norms_kept = 50;

double weight_of(const NumberMap& weights, const std::string& name) {
  for (const auto& [known, weight] : weights)
    if (known == name) return weight;
  return 1;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Tensor weighted_sum(const NamedLosses& losses, const NumberMap& weights) {
  GLIA_CHECK(!losses.empty(), "the model gave no losses");
  double sum = 0;
  auto node = std::make_shared<Node>();
  node->name = "sum of the losses";
  node->device = losses[0].second.device();
  std::vector<double> factors;
  for (const auto& [name, loss] : losses) {
    GLIA_CHECK(loss.size() == 1, "loss {} is {}, want one number", name, loss.shape());
    factors.push_back(weight_of(weights, name));
    sum += factors.back() * loss.item();
    node->inputs.push_back(loss.grad_record());
    node->specs.push_back({loss.shape(), loss.dtype()});
  }
  node->pull = [factors](const Tensor& dy, std::span<Tensor* const> grads) {
    for (size_t i = 0; i < grads.size(); ++i)
      if (grads[i]) grads[i]->fill(factors[i] * dy.item());
  };
  Tensor total = Tensor::full({}, sum, losses[0].second.dtype(), losses[0].second.device());
  auto record = std::make_shared<GradRecord>();
  record->node = std::move(node);
  total.set_grad_record(std::move(record));
  return total;
}

TrainerOptions trainer_options(const Config& config, int64_t total_steps) {
  const SolverConfig& s = config.solver;
  TrainerOptions o;
  o.optimizer = {.kind = parse_optimizer(s.optimizer),
                 .momentum = s.momentum,
                 .nesterov = s.nesterov,
                 .beta1 = s.beta1,
                 .beta2 = s.beta2,
                 .alpha = s.alpha,
                 .eps = s.epsilon,
                 .weight_decay = s.weight_decay};
  for (const auto& [pattern, factor] : config.init.lr_scale) o.groups.push_back({pattern, factor, 1});
  const bool plateau = s.schedule == "plateau";
  o.schedule = {.kind = plateau ? "constant" : s.schedule,
                .lr = s.lr,
                .total = total_steps,
                .warmup_steps = s.warmup_iterations,
                .warmup_factor = s.warmup_factor,
                .end = s.final_lr,
                .power = s.power,
                .gamma = s.gamma,
                .step_size = s.step_size,
                .period = s.period,
                .max_lr = s.lr};
  for (const double m : s.milestones) o.schedule.milestones.push_back(static_cast<int64_t>(m));
  o.schedule.validate();
  if (plateau)
    o.plateau = ReduceOnPlateau{
        .lr = s.lr, .maximize = higher_is_better(s.plateau_metric), .factor = s.gamma, .patience = s.plateau_patience};
  o.loss_weights = config.loss.terms;
  o.seed = static_cast<uint64_t>(config.run.seed);
  o.accumulate = s.accumulate;
  o.clip_norm = s.clip_norm;
  o.clip_value = s.clip_value;
  o.ema = s.ema;
  return o;
}

Trainer::Trainer(Module& model, LossFunction losses, Loader& loader, TrainerOptions options)
    : model_(&model),
      losses_(std::move(losses)),
      loader_(&loader),
      options_(std::move(options)),
      optimizer_(options_.optimizer, model.parameters(), options_.groups),
      buffers_(model.buffers()) {
  if (options_.ema > 0) ema_.emplace(optimizer_, options_.ema);
}

bool Trainer::at_epoch_end() const {
  const int64_t per_epoch = loader_->batches_per_epoch(), now = step_ * options_.accumulate;
  return step_ > 0 && now / per_epoch > (now - options_.accumulate) / per_epoch;
}

double Trainer::learning_rate() const {
  const double lr = options_.schedule.lr_at(step_);
  return options_.plateau ? lr * (options_.plateau->lr / options_.schedule.lr) : lr;
}

StepRecord Trainer::step() {
  const auto start = std::chrono::steady_clock::now();
  StepRecord record{.step = step_ + 1, .epoch = epochs_done() + 1, .lr = learning_rate()};
  std::vector<Batch> batches;
  const std::vector<Tensor> buffers = copy_buffers();
  model_->train();
  optimizer_.zero_grad();
  for (int64_t i = 0; i < options_.accumulate; ++i) {
    std::optional<Batch> batch = loader_->next();
    GLIA_CHECK(batch, "trainer: the loader ended at step {}", record.step);
    batches.push_back(std::move(*batch));
    const Tensor total = forward(batches.back(), i, record);
    if (!std::isfinite(total.item())) diverged(record, batches, buffers);
    backward(total);
  }
  if (options_.accumulate > 1) optimizer_.scale_gradients(1.0 / static_cast<double>(options_.accumulate));
  record.grad_norm = optimizer_.grad_norm();
  if (!std::isfinite(record.grad_norm)) diverged(record, batches, buffers);
  if (options_.clip_value > 0) optimizer_.clip_value(options_.clip_value);
  if (options_.clip_norm > 0) optimizer_.clip_norm(options_.clip_norm);
  if (const auto momentum = options_.schedule.momentum_at(step_)) optimizer_.set_momentum(*momentum);
  optimizer_.step(record.lr);
  if (ema_) ema_->update();
  ++step_;
  recent_norms_.push_back(record.grad_norm);
  if (recent_norms_.size() > norms_kept) recent_norms_.erase(recent_norms_.begin());
  record.ends_epoch = at_epoch_end();
  record.seconds = seconds_since(start);
  return record;
}

// The loss of one batch; its share is added to the record.
Tensor Trainer::forward(const Batch& batch, int64_t micro_step, StepRecord& record) {
  model_->set_random(options_.seed, step_ * options_.accumulate + micro_step);
  const NamedLosses losses = losses_(batch);
  Tensor total = weighted_sum(losses, options_.loss_weights);
  const double share = 1.0 / static_cast<double>(options_.accumulate);
  record.loss += share * total.item();
  if (record.terms.empty())
    for (const auto& [name, loss] : losses) record.terms.emplace_back(name, 0.0);
  for (size_t i = 0; i < std::min(losses.size(), record.terms.size()); ++i)
    record.terms[i].second += share * losses[i].second.item();
  record.images += static_cast<int64_t>(batch.examples.size());
  record.data_wait += batch.wait;
  return total;
}

std::vector<Tensor> Trainer::copy_buffers() const {
  std::vector<Tensor> copies;
  for (const NamedTensor& b : buffers_) copies.push_back(b.tensor->clone());
  return copies;
}

void Trainer::restore_buffers(const std::vector<Tensor>& copies) const {
  for (size_t i = 0; i < buffers_.size(); ++i) buffers_[i].tensor->copy_from(copies[i]);
}

void Trainer::diverged(const StepRecord& record, const std::vector<Batch>& batches, const std::vector<Tensor>& buffers) {
  restore_buffers(buffers);
  const std::string report = Divergence(*this, record, batches).report();
  restore_buffers(buffers);
  throw DivergedError(report);
}

void Trainer::update_plateau(double metric) {
  if (options_.plateau) options_.plateau->update(metric);
}

void Trainer::swap_average() {
  if (ema_) ema_->swap();
}

void Trainer::save(Checkpoint& c) const {
  c.step = step_;
  c.epoch = epochs_done();
  c.seed = static_cast<int64_t>(options_.seed);
  c.weights = model_->state_dict();
  c.optimizer = optimizer_.state_dict();
  if (ema_) c.ema = ema_->state_dict();
  c.state.set("loader.batches_per_epoch", loader_->batches_per_epoch());
  if (const auto& p = options_.plateau) {
    c.state.set("plateau.lr", p->lr);
    if (p->best) c.state.set("plateau.best", *p->best);
    c.state.set("plateau.bad_evaluations", p->bad_evaluations);
    c.state.set("plateau.cooling", p->cooling);
  }
}

void Trainer::load(const Checkpoint& c, const std::string& source) {
  const int64_t batches = c.state.integer("loader.batches_per_epoch", loader_->batches_per_epoch());
  if (batches != loader_->batches_per_epoch())
    throw UsageError("{}: was trained with {} batches per epoch, now there are {}; resume with the same data and split", source,
                     batches, loader_->batches_per_epoch());
  model_->load_state_dict(c.weights, source);
  optimizer_.load_state_dict(c.optimizer, source);
  if (ema_) ema_->load_state_dict(c.ema, source);
  if (auto& p = options_.plateau) {
    p->lr = c.state.number("plateau.lr").value_or(p->lr);
    p->best = c.state.number("plateau.best");
    p->bad_evaluations = c.state.integer("plateau.bad_evaluations", 0);
    p->cooling = c.state.integer("plateau.cooling", 0);
  }
  step_ = c.step;
  const int64_t taken = step_ * options_.accumulate;
  loader_->seek(taken / batches, taken % batches);
}

}  // namespace glia
