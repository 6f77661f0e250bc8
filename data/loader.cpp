// Loader: workers take the next batch number, make the batch and put it into a window of at most `prefetch` batches.
#include "data/loader.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <numeric>
#include <thread>

#include "tensor/parallel.h"
#include "tensor/random.h"

namespace glia {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

// Invariants, under mutex_: batches are numbered from 0 at first_epoch; ready_ holds only numbers in
// [consumed_, taken_); taken_ < consumed_ + prefetch + 1. A worker drops its batch when generation_ has changed (seek).
class Loader::Impl {
 public:
  Impl(int64_t size, std::function<Example(int64_t)> load, LoaderOptions options)
      : size_(size), load_(std::move(load)), options_(std::move(options)) {
    GLIA_CHECK(size_ >= 1, "loader: {} examples, want at least 1", size_);
    if (options_.batch_size < 1) throw UsageError("solver.batch_size: {}, want at least 1", options_.batch_size);
    if (options_.workers < 0 || options_.workers > 256) throw UsageError("data.workers: {}, want 0 to 256", options_.workers);
    if (options_.prefetch < 1) throw UsageError("data.prefetch: {}, want at least 1", options_.prefetch);
    check(options_.augment);
    if (options_.detection) check(*options_.detection);
    if (options_.endless)
      chain_.emplace(size_, options_.batch_size, options_.groups, [this](int64_t epoch) { return order_of(epoch); });
    GLIA_CHECK(options_.endless || options_.groups.empty(), "loader: groups without endless");
    GLIA_CHECK(options_.repeat >= 1 && size_ % options_.repeat == 0, "loader: {} examples, {} times the same", size_,
               options_.repeat);
    if (options_.cache) cache_.resize(static_cast<size_t>(size_ / options_.repeat));
    position_to(options_.first_epoch, options_.first_position);
    for (int i = 0; i < options_.workers; ++i) threads_.emplace_back([this](std::stop_token stop) { work(stop); });
  }

  ~Impl() {
    for (auto& thread : threads_) thread.request_stop();
    changed_.notify_all();
    threads_.clear();  // joins
  }

  int64_t batches_per_epoch() const {
    const int64_t whole = size_ / options_.batch_size;
    if (options_.endless) return std::max<int64_t>(1, whole);
    return options_.drop_last && whole > 0 ? whole : (size_ + options_.batch_size - 1) / options_.batch_size;
  }

  std::optional<Batch> next() {
    const auto start = std::chrono::steady_clock::now();
    std::optional<Batch> batch = options_.workers ? take_ready() : make_here();
    if (batch) {
      batch->wait = seconds_since(start);
      waited_ += batch->wait;
    }
    return batch;
  }

  void seek(int64_t epoch, int64_t position) {
    {
      const std::lock_guard lock(mutex_);
      ++generation_;
      ready_.clear();
      position_to(epoch, position);
    }
    changed_.notify_all();
  }

  double wait_seconds() const { return waited_; }

 private:
  struct Outcome {
    Batch batch;
    std::exception_ptr error;
  };

  void position_to(int64_t epoch, int64_t position) {
    if (epoch < 0 || position < 0) throw UsageError("loader: epoch {}, position {}: want 0 or more", epoch, position);
    consumed_ = taken_ = epoch * batches_per_epoch() + position;
    end_ = options_.epochs > 0 ? (options_.first_epoch + options_.epochs) * batches_per_epoch() : INT64_MAX;
  }

  std::optional<Batch> make_here() {
    if (consumed_ >= end_) return std::nullopt;
    return make(consumed_++);
  }

  std::optional<Batch> take_ready() {
    std::unique_lock lock(mutex_);
    if (consumed_ >= end_) return std::nullopt;
    changed_.wait(lock, [&] { return ready_.contains(consumed_); });
    Outcome outcome = std::move(ready_.extract(consumed_).mapped());
    ++consumed_;
    lock.unlock();
    changed_.notify_all();
    if (outcome.error) std::rethrow_exception(outcome.error);
    return std::move(outcome.batch);
  }

  void work(std::stop_token stop) {
    const SerialRegion serial;
    std::unique_lock lock(mutex_);
    for (;;) {
      const auto may_go_on = [&] { return taken_ < end_ && taken_ < consumed_ + options_.prefetch; };
      if (!changed_.wait(lock, stop, may_go_on) || stop.stop_requested()) return;
      const int64_t number = taken_++;
      const uint64_t generation = generation_;
      lock.unlock();
      Outcome outcome;
      try {
        outcome.batch = make(number);
      } catch (...) {
        outcome.error = std::current_exception();
      }
      lock.lock();
      if (generation == generation_) ready_.emplace(number, std::move(outcome));
      changed_.notify_all();
    }
  }

  Batch make(int64_t number) {
    const int64_t per_epoch = batches_per_epoch();
    Batch batch;
    batch.epoch = number / per_epoch;
    batch.position = number % per_epoch;
    batch.last_of_epoch = batch.position + 1 == per_epoch;
    for (const Drawn& drawn : drawn_for(batch)) batch.examples.push_back(example(drawn));
    if (options_.prepare) batch.tensors = options_.prepare(batch.examples);
    if (!options_.keep_examples) {
      for (Example& e : batch.examples) e.image = e.labels = Tensor(), e.instances.clear();
    }
    return batch;
  }

  std::vector<Drawn> drawn_for(const Batch& batch) {
    if (chain_) return chain_->batch(batch.epoch * batches_per_epoch() + batch.position);
    const auto order = order_of(batch.epoch);
    const int64_t first = batch.position * options_.batch_size, last = std::min(size_, first + options_.batch_size);
    std::vector<Drawn> drawn;
    for (int64_t i = first; i < last; ++i) drawn.push_back({batch.epoch, (*order)[static_cast<size_t>(i)]});
    return drawn;
  }

  // The order of the last two epochs asked for is kept: workers stand in at most two at a time.
  std::shared_ptr<const std::vector<int64_t>> order_of(int64_t epoch) {
    const std::lock_guard lock(order_mutex_);
    auto& slot = orders_[static_cast<size_t>(epoch % 2)];
    if (!slot.order || slot.epoch != epoch) {
      slot = {epoch, std::make_shared<const std::vector<int64_t>>(epoch_order(size_, options_.seed, epoch, options_.shuffle))};
    }
    return slot.order;
  }

  Example example(const Drawn& drawn) {
    const auto [epoch, index] = drawn;
    Example example = loaded(index);
    example.index = index;
    if (options_.augmenter) {
      options_.augmenter(example, options_.seed, epoch, index);
      return example;
    }
    if (options_.detection) {
      augment_detection(example.image, example.instances, *options_.detection, options_.seed, epoch, index);
      return example;
    }
    if (options_.augment.identity()) return example;
    const auto a = draw_augmentation(options_.augment, example.image.dim(0), example.image.dim(1), options_.seed, epoch, index);
    example.image = augment_image(example.image, a);
    if (!example.labels) return example;
    std::vector<int32_t> source;
    example.labels = augment_labels(example.labels, a, &source);
    if (example.categories.empty()) return example;
    std::vector<int> categories;
    for (const int32_t label : source) {
      GLIA_CHECK(static_cast<size_t>(label) <= example.categories.size(), "loader: {}: label {}, but {} categories", example.id,
                 label, example.categories.size());
      categories.push_back(example.categories[static_cast<size_t>(label) - 1]);
    }
    example.categories = std::move(categories);
    return example;
  }

  Example loaded(int64_t index) {
    if (!options_.cache) return load_(index);
    {
      const std::lock_guard lock(cache_mutex_);
      if (const auto& kept = cache_[static_cast<size_t>(index) % cache_.size()]) return *kept;
    }
    Example example = load_(index);  // outside the lock; two workers that read the same example do no harm
    const std::lock_guard lock(cache_mutex_);
    cache_[static_cast<size_t>(index) % cache_.size()] = example;
    return example;
  }

  const int64_t size_;
  const std::function<Example(int64_t)> load_;
  const LoaderOptions options_;

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::map<int64_t, Outcome> ready_;
  int64_t consumed_ = 0, taken_ = 0, end_ = 0;
  uint64_t generation_ = 0;

  std::mutex cache_mutex_;
  std::vector<std::optional<Example>> cache_;

  struct EpochOrder {
    int64_t epoch = 0;
    std::shared_ptr<const std::vector<int64_t>> order;
  };
  std::mutex order_mutex_;
  std::array<EpochOrder, 2> orders_;
  std::optional<EndlessChain> chain_;

  double waited_ = 0;                  // touched by next() alone
  std::vector<std::jthread> threads_;  // last: they use everything above
};

Loader::Loader(int64_t size, std::function<Example(int64_t)> load, LoaderOptions options)
    : impl_(std::make_unique<Impl>(size, std::move(load), std::move(options))) {}
Loader::~Loader() = default;
Loader::Loader(Loader&&) noexcept = default;
Loader& Loader::operator=(Loader&&) noexcept = default;

std::optional<Batch> Loader::next() { return impl_->next(); }
void Loader::seek(int64_t epoch, int64_t position) { impl_->seek(epoch, position); }
int64_t Loader::batches_per_epoch() const { return impl_->batches_per_epoch(); }
double Loader::wait_seconds() const { return impl_->wait_seconds(); }

}  // namespace glia
