#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "autograd/tape.h"
#include "kernels/optimizer.h"
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

Tensor scaled(const Tensor& x, double factor) {
  Tensor y = x.clone();
  if (factor != 1) ScaleInPlace::forward.pick(y.device(), y.dtype())({factor}, y);
  return y;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

bool is_finite(const StepRecord& r) { return std::isfinite(r.loss) && std::isfinite(r.grad_norm); }

}  // namespace

Tensor weighted_sum(const NamedLosses& losses, const NumberMap& weights) {
  GLIA_CHECK(!losses.empty(), "the model gave no losses");
  const MemoryScope scope("sum of the losses");
  auto node = std::make_shared<Node>();
  node->name = "sum of the losses";
  node->device = losses[0].second.device();
  std::vector<double> factors;
  Tensor total;
  for (const auto& [name, loss] : losses) {
    GLIA_CHECK(loss.size() == 1, "loss {} is {}, want one number", name, loss.shape());
    factors.push_back(weight_of(weights, name));
    node->inputs.push_back(loss.grad_record());
    node->specs.push_back({loss.shape(), loss.dtype()});
    Tensor part = scaled(loss, factors.back()).reshape({});
    if (total) {
      AddInPlace::forward.pick(part.device(), part.dtype())({}, part, total);
    } else {
      total = part;
    }
  }
  node->pull = [factors](const Tensor& dy, std::span<Tensor* const> grads) {
    for (size_t i = 0; i < grads.size(); ++i)
      if (grads[i]) grads[i]->copy_from(scaled(dy, factors[i]).reshape(grads[i]->shape()));
  };
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
                 .weight_decay = s.weight_decay,
                 .bias_lr_factor = s.bias_lr_factor};
  if (s.weight_decay_norm >= 0) o.optimizer.weight_decay_norm = s.weight_decay_norm;
  if (s.weight_decay_bias >= 0) o.optimizer.weight_decay_bias = s.weight_decay_bias;
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
  o.clip_norm_each = s.clip_norm_each;
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
      buffers_(model.buffers()),
      uploader_(model.device()),
      numbers_(model.device()) {
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
  GLIA_CHECK(pending_.empty(), "trainer: {} launched steps were not read", pending_.size());
  read_at_ = std::chrono::steady_clock::now();
  advance(true);
  return read().back();
}

void Trainer::launch() {
  if (pending_.empty()) {
    read_at_ = std::chrono::steady_clock::now();
    save(snapshot_);
  }
  const bool checked = step_ < checked_to_;
  try {
    advance(checked);
  } catch (const DivergedError&) {
    if (checked) throw;
    take_again();
  }
}

// A launched forward pass found on the host that numbers are not finite. What came before it may be the cause: all steps since the last
// read are taken as step() takes them, and so will be this one.
void Trainer::take_again() {
  checked_to_ = step_ + 1;
  numbers_.wait();
  numbers_.clear();
  pending_.clear();
  restore(snapshot_);
  while (step_ + 1 < checked_to_) {
    advance(true);
    retaken_ = read();
  }
}

std::vector<StepRecord> Trainer::read() {
  std::vector<StepRecord> records = std::exchange(retaken_, {});
  if (pending_.empty()) return records;
  const auto first_new = static_cast<std::ptrdiff_t>(records.size());
  numbers_.wait();
  std::vector<Pending> steps = std::exchange(pending_, {});
  const double seconds = seconds_since(read_at_) / static_cast<double>(steps.size());
  for (Pending& step : steps) {
    finish(step);
    step.record.seconds = seconds;
    records.push_back(std::move(step.record));
  }
  numbers_.clear();
  const auto bad = std::find_if(records.begin() + first_new, records.end(), [](const StepRecord& r) { return !is_finite(r); });
  if (bad != records.end()) {
    checked_to_ = bad->step;
    restore(snapshot_);
    records.erase(records.begin() + first_new, records.end());
    while (step_ + 1 < checked_to_) records.push_back(step());
    return records;
  }
  for (auto r = records.begin() + first_new; r != records.end(); ++r) remember(*r);
  return records;
}

// `checked`: numbers that are not finite are found before they do harm, at the price of waiting for them.
void Trainer::advance(bool checked) {
  Pending step{.record = {.step = step_ + 1, .epoch = epochs_done() + 1, .lr = learning_rate()}, .totals = {}, .terms = {}};
  std::vector<Batch> batches;
  const std::vector<Tensor> buffers = checked ? copy_buffers() : std::vector<Tensor>{};
  model_->train();
  optimizer_.zero_grad();
  for (int64_t i = 0; i < options_.accumulate; ++i) {
    batches.push_back(next_batch(checked));
    Tensor total;
    try {
      total = forward(batches.back(), i, step);
    } catch (const DivergedError&) {  // of a model that looks at its own numbers
      if (!checked) throw;
      step.record.loss = NAN;
      diverged(step, batches, buffers);
    }
    if (checked && !std::isfinite(total.item())) diverged(step, batches, buffers);
    backward(total);
  }
  if (options_.accumulate > 1) optimizer_.scale_gradients(1.0 / static_cast<double>(options_.accumulate));
  Tensor squared_norm = optimizer_.squared_norm();
  step.squared_norm = numbers_.add(squared_norm);
  if (checked && !std::isfinite(squared_norm.item())) diverged(step, batches, buffers);
  if (options_.clip_value > 0) {
    optimizer_.clip_value(options_.clip_value);
    if (options_.clip_norm > 0) squared_norm = optimizer_.squared_norm();
  }
  if (options_.clip_norm > 0 && options_.clip_norm_each) optimizer_.clip_norm_each(options_.clip_norm);
  if (options_.clip_norm > 0 && !options_.clip_norm_each) optimizer_.clip_norm(options_.clip_norm, squared_norm);
  if (const auto momentum = options_.schedule.momentum_at(step_)) optimizer_.set_momentum(*momentum);
  optimizer_.step(step.record.lr);
  if (ema_) ema_->update();
  ++step_;
  step.record.ends_epoch = at_epoch_end();
  pending_.push_back(std::move(step));
  if (!checked) fetch_ahead();
}

Batch Trainer::next_batch(bool checked) {
  Batch batch;
  if (ahead_) {
    batch = *std::exchange(ahead_, std::nullopt);
  } else {
    std::optional<Batch> next = loader_->next();
    GLIA_CHECK(next, "trainer: the loader ended at step {}", step_ + 1);
    batch = std::move(*next);
    if (!checked) uploader_.begin(batch.tensors);
  }
  if (!checked) batch.tensors = uploader_.take();
  return batch;
}

// While the device works on what was launched, the host waits for the loader and the next batch travels.
void Trainer::fetch_ahead() {
  if (ahead_) return;
  ahead_ = loader_->next();
  if (ahead_) uploader_.begin(ahead_->tensors);
}

NamedLosses Trainer::losses_of(const Batch& batch, int64_t micro_step) {
  model_->set_random(options_.seed, step_ * options_.accumulate + micro_step);
  return losses_(batch);
}

// The loss of one batch, asked for in numbers_.
Tensor Trainer::forward(const Batch& batch, int64_t micro_step, Pending& step) {
  const NamedLosses losses = losses_of(batch, micro_step);
  Tensor total = weighted_sum(losses, options_.loss_weights);
  step.totals.push_back(numbers_.add(total));
  if (step.record.terms.empty())
    for (const auto& [name, loss] : losses) step.record.terms.emplace_back(name, 0.0);
  step.terms.emplace_back();
  for (const auto& [name, loss] : losses) step.terms.back().push_back(numbers_.add(loss));
  step.record.images += static_cast<int64_t>(batch.examples.size());
  step.record.data_wait += batch.wait;
  return total;
}

void Trainer::finish(Pending& step) const {
  StepRecord& r = step.record;
  const double share = 1.0 / static_cast<double>(options_.accumulate);
  for (const size_t total : step.totals) r.loss += share * numbers_[total];
  for (const std::vector<size_t>& terms : step.terms)
    for (size_t i = 0; i < std::min(terms.size(), r.terms.size()); ++i) r.terms[i].second += share * numbers_[terms[i]];
  if (step.squared_norm) r.grad_norm = std::sqrt(numbers_[*step.squared_norm]);
}

void Trainer::remember(const StepRecord& record) {
  recent_norms_.push_back(record.grad_norm);
  if (recent_norms_.size() > norms_kept) recent_norms_.erase(recent_norms_.begin());
}

void Trainer::save(Snapshot& snapshot) const {
  snapshot.step = step_;
  optimizer_.save(snapshot.optimizer);
  if (ema_) snapshot.average = ema_->average().clone();
  snapshot.buffers = copy_buffers();
}

void Trainer::restore(const Snapshot& snapshot) {
  step_ = snapshot.step;
  optimizer_.restore(snapshot.optimizer);
  if (ema_) ema_->average().copy_from(snapshot.average);
  restore_buffers(snapshot.buffers);
  seek_loader();
}

void Trainer::seek_loader() {
  ahead_.reset();
  const int64_t batches = loader_->batches_per_epoch(), taken = step_ * options_.accumulate;
  loader_->seek(taken / batches, taken % batches);
}

std::vector<Tensor> Trainer::copy_buffers() const {
  std::vector<Tensor> copies;
  for (const NamedTensor& b : buffers_) copies.push_back(b.tensor->clone());
  return copies;
}

void Trainer::restore_buffers(const std::vector<Tensor>& copies) const {
  for (size_t i = 0; i < buffers_.size(); ++i) buffers_[i].tensor->copy_from(copies[i]);
}

void Trainer::diverged(Pending& step, const std::vector<Batch>& batches, const std::vector<Tensor>& buffers) {
  numbers_.wait();
  finish(step);
  if (pending_.empty()) numbers_.clear();
  restore_buffers(buffers);
  Divergence divergence(*this, step.record, batches);
  const std::string report = divergence.report();
  divergence_ = divergence.details();
  divergence_picture_ = divergence.picture();
  restore_buffers(buffers);
  seek_loader();  // before this step: the state is that of a checkpoint
  throw DivergedError(report);
}

void Trainer::skip() {
  GLIA_CHECK(pending_.empty() && retaken_.empty(), "trainer: launched steps were not read");
  ++step_;
  seek_loader();
}

void Trainer::go_back_to(const Checkpoint& c, const std::string& source) {
  load_weights(c, source);
  skip();
}

void Trainer::update_plateau(double metric) {
  if (options_.plateau) options_.plateau->update(metric);
}

void Trainer::swap_average() {
  if (ema_) ema_->swap();
}

void Trainer::save(Checkpoint& c) const {
  GLIA_CHECK(pending_.empty(), "trainer: {} launched steps were not read", pending_.size());
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

void Trainer::load_weights(const Checkpoint& c, const std::string& source) {
  model_->load_state_dict(c.weights, source);
  optimizer_.load_state_dict(c.optimizer, source);
  if (ema_) ema_->load_state_dict(c.ema, source);
}

void Trainer::load(const Checkpoint& c, const std::string& source) {
  const int64_t batches = c.state.integer("loader.batches_per_epoch", loader_->batches_per_epoch());
  if (batches != loader_->batches_per_epoch())
    throw UsageError("{}: was trained with {} batches per epoch, now there are {}; resume with the same data and split", source,
                     batches, loader_->batches_per_epoch());
  load_weights(c, source);
  if (auto& p = options_.plateau) {
    p->lr = c.state.number("plateau.lr").value_or(p->lr);
    p->best = c.state.number("plateau.best");
    p->bad_evaluations = c.state.integer("plateau.bad_evaluations", 0);
    p->cooling = c.state.integer("plateau.cooling", 0);
  }
  step_ = c.step;
  seek_loader();
}

}  // namespace glia
