// Loader, augmentation and split: determinism, the same transform for image and labels, errors of workers.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>
#include <set>
#include <thread>

#include "data/augment.h"
#include "data/loader.h"
#include "data/split.h"
#include "tensor/parallel.h"
#include "tensor/random.h"

namespace glia {
namespace {

// Image of `height` x `width` whose pixel values follow its labels, so that any disagreement of the two transforms shows.
Example toy_example(int64_t index, int64_t height = 24, int64_t width = 32) {
  Example e{Tensor({height, width, 1}, DType::uint8),
            Tensor({height, width}, DType::int32),
            {0, 1, 2},
            index,
            fmt::format("i{}", index)};
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      const int label = y > 2 && y < 10 && x > 3 && x < 14   ? 1
                        : y >= 12 && x > 20                  ? 2
                        : y > 14 && y < 22 && x > 4 && x < 9 ? 3
                                                             : 0;
      e.labels.data<int32_t>()[y * width + x] = label;
      e.image.data<uint8_t>()[y * width + x] = static_cast<uint8_t>(label * 60 + index);
    }
  }
  return e;
}

std::vector<uint8_t> bytes_of(const Batch& batch) {
  std::vector<uint8_t> all;
  for (const Example& e : batch.examples) {
    const auto* image = reinterpret_cast<const uint8_t*>(e.image.raw());
    const auto* labels = reinterpret_cast<const uint8_t*>(e.labels.raw());
    all.insert(all.end(), image, image + e.image.bytes());
    all.insert(all.end(), labels, labels + e.labels.bytes());
    all.push_back(static_cast<uint8_t>(e.index));
    for (const int c : e.categories) all.push_back(static_cast<uint8_t>(c));
  }
  return all;
}

AugmentOptions everything() {
  return {.hflip = true,
          .vflip = true,
          .transpose = true,
          .rotate = 30,
          .scale = 0.3,
          .brightness = 0.1,
          .contrast = 0.2,
          .noise = 0.05,
          .crop = {20, 20}};
}

LoaderOptions options(int workers, AugmentOptions augment = everything()) {
  LoaderOptions o;
  o.batch_size = 3, o.seed = 7, o.epochs = 3, o.workers = workers, o.augment = augment;
  return o;
}

std::vector<std::vector<uint8_t>> run_through(LoaderOptions o) {
  Loader loader(
      10,
      [](int64_t i) {
        if (i % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));  // batches finish out of order
        return toy_example(i);
      },
      o);
  std::vector<std::vector<uint8_t>> batches;
  while (auto batch = loader.next()) batches.push_back(bytes_of(*batch));
  return batches;
}

TEST_SUITE_BEGIN("data");

TEST_CASE("split: disjoint, whole, 4 to 1, independent of the order of the samples") {
  std::vector<std::string> ids;
  for (int i = 0; i < 606; ++i) ids.push_back(fmt::format("{:08x}", i * 2654435761u));
  for (const auto method : {SplitMethod::seeded, SplitMethod::every_nth}) {
    const Split split = split_samples(ids, {.method = method, .seed = 3});
    CHECK(split.validation.size() == 121);
    std::set<int64_t> all(split.train.begin(), split.train.end());
    all.insert(split.validation.begin(), split.validation.end());
    CHECK(all.size() == 606);
    CHECK(split.train.size() + split.validation.size() == 606);
    CHECK(std::is_sorted(split.validation.begin(), split.validation.end()));

    std::vector<std::string> reversed(ids.rbegin(), ids.rend());
    std::set<std::string> chosen, chosen_reversed;
    for (const int64_t i : split.validation) chosen.insert(ids[static_cast<size_t>(i)]);
    for (const int64_t i : split_samples(reversed, {.method = method, .seed = 3}).validation) {
      chosen_reversed.insert(reversed[static_cast<size_t>(i)]);
    }
    CHECK(chosen == chosen_reversed);
  }
  CHECK(split_samples(ids, {.seed = 3}).validation != split_samples(ids, {.seed = 4}).validation);
  // every_nth: the 5th, 10th, ... of the sorted ids
  CHECK(split_samples({"e", "d", "c", "b", "a", "f"}, {.method = SplitMethod::every_nth}).validation == std::vector<int64_t>{0});
  CHECK(split_samples({"one"}, {}).train == std::vector<int64_t>{0});
  CHECK(split_samples({"one", "two"}, {}).validation.size() == 1);
  CHECK(split_samples(ids, {.fraction = 0}).validation.empty());
  CHECK_THROWS_WITH_AS(split_samples(ids, {.fraction = 1}), doctest::Contains("val_fraction"), UsageError);
}

TEST_CASE("epoch order: a permutation, another one in each epoch") {
  const auto a = epoch_order(1000, 1, 0), b = epoch_order(1000, 1, 1);
  CHECK(a != b);
  CHECK(a == epoch_order(1000, 1, 0));
  CHECK(a != epoch_order(1000, 2, 0));
  auto sorted = a;
  std::sort(sorted.begin(), sorted.end());
  CHECK(sorted == epoch_order(1000, 1, 0, false));
}

TEST_CASE("loader: the same batches with 0, 1, 2 and 5 workers, with and without a cache") {
  const auto expected = run_through(options(0));
  CHECK(expected.size() == 12);
  for (const int workers : {1, 2, 5}) {
    for (const bool cache : {false, true}) {
      LoaderOptions o = options(workers);
      o.cache = cache;
      o.prefetch = workers == 5 ? 8 : 2;
      CHECK(run_through(o) == expected);
    }
  }
}

TEST_CASE("loader: resumes at any position, and seeks") {
  const auto expected = run_through(options(2));
  const auto load = [](int64_t i) { return toy_example(i); };
  for (int64_t start = 0; start < 12; ++start) {
    LoaderOptions o = options(2);
    o.epochs = 0, o.first_epoch = start / 4, o.first_position = start % 4;
    Loader loader(10, load, o);
    for (int64_t i = start; i < 12; ++i) {
      const Batch batch = *loader.next();
      CHECK(batch.epoch == i / 4);
      CHECK(batch.position == i % 4);
      CHECK(batch.last_of_epoch == (i % 4 == 3));
      CHECK(bytes_of(batch) == expected[static_cast<size_t>(i)]);
    }
    loader.seek(1, 2);
    CHECK(bytes_of(*loader.next()) == expected[6]);
  }
}

TEST_CASE("loader: incomplete last batch is kept or dropped") {
  const auto load = [](int64_t i) { return toy_example(i); };
  LoaderOptions o = options(1, {});
  o.epochs = 1, o.shuffle = false;
  Loader kept(10, load, o);
  std::vector<int64_t> sizes, indices;
  while (auto batch = kept.next()) {
    sizes.push_back(static_cast<int64_t>(batch->examples.size()));
    for (const Example& e : batch->examples) indices.push_back(e.index);
  }
  CHECK(sizes == std::vector<int64_t>{3, 3, 3, 1});
  CHECK(indices == epoch_order(10, 0, 0, false));
  o.drop_last = true;
  CHECK(Loader(10, load, o).batches_per_epoch() == 3);
  CHECK(Loader(2, load, o).batches_per_epoch() == 1);  // never nothing at all
  CHECK_THROWS_AS(Loader(0, load, o), Error);
}

TEST_CASE("loader: errors of workers come out of next() in their turn; the loader goes on") {
  for (const int workers : {0, 3}) {
    LoaderOptions o = options(workers, {});
    o.shuffle = false, o.epochs = 1;
    Loader loader(
        12,
        [](int64_t i) -> Example {
          if (i == 4) throw DataError("image {} is broken", i);
          return toy_example(i);
        },
        o);
    CHECK(loader.next()->position == 0);
    CHECK_THROWS_WITH_AS(loader.next(), "image 4 is broken", DataError);
    CHECK(loader.next()->position == 2);
  }
}

TEST_CASE("loader: prefetch is bounded, prepare runs on the workers, examples can be dropped") {
  std::atomic<int> loads = 0;
  LoaderOptions o = options(2, {});
  o.batch_size = 1, o.prefetch = 3, o.epochs = 0, o.keep_examples = false;
  const auto main_thread = std::this_thread::get_id();
  std::atomic<bool> on_worker = true;
  o.prepare = [&](std::span<const Example> examples) {
    if (std::this_thread::get_id() == main_thread) on_worker = false;
    Tensor sum = Tensor::zeros({1});
    for (const Example& e : examples) sum.data<float>()[0] += static_cast<float>(e.index);
    return std::vector<Tensor>{sum};
  };
  Loader loader(
      100,
      [&](int64_t i) {
        ++loads;
        return toy_example(i);
      },
      o);
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  CHECK(loads <= 3);
  const Batch batch = *loader.next();
  CHECK(batch.tensors.at(0).item() == static_cast<double>(epoch_order(100, 7, 0)[0]));
  CHECK(on_worker);
  CHECK(batch.examples.size() == 1);
  CHECK_FALSE(batch.examples[0].image);
  CHECK_FALSE(batch.examples[0].id.empty());
  CHECK(loader.wait_seconds() >= batch.wait);
}

TEST_CASE("loader: the cache reads every image once") {
  std::atomic<int> loads = 0;
  LoaderOptions o = options(1);
  o.cache = true;
  Loader loader(
      10,
      [&](int64_t i) {
        ++loads;
        return toy_example(i);
      },
      o);
  while (loader.next()) {
  }
  CHECK(loads == 10);
  loads = 0;
  o.repeat = 5;
  Loader repeated(
      10,
      [&](int64_t i) {
        ++loads;
        return toy_example(i % 2);
      },
      o);
  while (repeated.next()) {
  }
  CHECK(loads == 2);
}

TEST_CASE("augmentation: defaults change nothing") {
  const Example e = toy_example(3);
  const Augmentation a = draw_augmentation({}, 24, 32, 1, 2, 3);
  CHECK(std::ranges::equal(augment_image(e.image, a).values<uint8_t>(), e.image.values<uint8_t>()));
  CHECK(std::ranges::equal(augment_labels(e.labels, a).values<int32_t>(), e.labels.values<int32_t>()));
}

TEST_CASE("augmentation: flips and transposition give the 8 symmetries, all of them, exactly") {
  Tensor image({3, 3}, DType::int32);
  std::iota(image.values<int32_t>().begin(), image.values<int32_t>().end(), 1);
  std::set<std::vector<int32_t>> seen;
  for (int64_t i = 0; i < 200; ++i) {
    const auto a = draw_augmentation({.hflip = true, .vflip = true, .transpose = true}, 3, 3, 5, 0, i);
    const Tensor out = augment_image(image, a);
    seen.insert({out.values<int32_t>().begin(), out.values<int32_t>().end()});
  }
  CHECK(seen.size() == 8);
  CHECK(seen.contains({1, 2, 3, 4, 5, 6, 7, 8, 9}));
  CHECK(seen.contains({3, 2, 1, 6, 5, 4, 9, 8, 7}));
  CHECK(seen.contains({1, 4, 7, 2, 5, 8, 3, 6, 9}));
  CHECK(seen.contains({9, 6, 3, 8, 5, 2, 7, 4, 1}));
  // Not square, no crop: the shape stays, so no transposition.
  for (int64_t i = 0; i < 20; ++i) {
    const auto a = draw_augmentation({.transpose = true}, 3, 4, 5, 0, i);
    CHECK((a.height == 3 && a.width == 4 && a.matrix[0] == 1));
  }
}

TEST_CASE("augmentation: image and labels move together") {
  const Example e = toy_example(0, 60, 70);
  for (int64_t i = 0; i < 60; ++i) {
    AugmentOptions o{.hflip = true, .vflip = true, .transpose = true, .rotate = 180, .scale = 0.5};
    if (i % 2) o.crop = {40 + i, 55};
    const auto a = draw_augmentation(o, 60, 70, 9, 1, i);
    std::vector<int32_t> source;
    const Tensor image = augment_image(e.image, a), labels = augment_labels(e.labels, a, &source);
    REQUIRE((labels.dim(0) == a.height && labels.dim(1) == a.width && image.dim(0) == a.height));
    // Away from borders of instances, where bilinear mixes, a pixel's value is that of its label's original.
    int64_t far = 0;
    for (int64_t y = 2; y + 2 < a.height; ++y) {
      for (int64_t x = 2; x + 2 < a.width; ++x) {
        const int32_t* l = labels.data<int32_t>() + y * a.width + x;
        bool inside = true;
        for (int64_t dy = -2; dy <= 2; ++dy) {
          for (int64_t dx = -2; dx <= 2; ++dx) inside = inside && l[dy * a.width + dx] == *l;
        }
        if (!inside) continue;
        ++far;
        const int expected = *l ? source[static_cast<size_t>(*l) - 1] * 60 : 0;
        REQUIRE(int(image.data<uint8_t>()[y * a.width + x]) == expected);
      }
    }
    CHECK(far > 100);
  }
}

TEST_CASE("augmentation: mirrored instances get labels of their own unless they touch the edge") {
  Tensor labels = Tensor::zeros({10, 10}, DType::int32);
  labels.data<int32_t>()[4 * 10 + 4] = 7;  // inside
  labels.data<int32_t>()[7 * 10 + 9] = 3;  // at the right edge
  Augmentation a;
  a.height = 10, a.width = 20, a.center = {10, 5};  // 10 columns more to the right
  std::vector<int32_t> source;
  const Tensor out = augment_labels(labels, a, &source);
  const auto at = [&](int64_t y, int64_t x) { return out.data<int32_t>()[y * 20 + x]; };
  CHECK(source == std::vector<int32_t>{3, 7, 7});
  CHECK(at(7, 9) == 1);
  CHECK(at(7, 10) == 1);  // the mirror image continues it
  CHECK(at(4, 4) == 2);
  CHECK(at(4, 15) == 3);  // a copy of its own
}

TEST_CASE("augmentation: brightness, contrast and noise") {
  Tensor image = Tensor::full({64, 64, 1}, 100, DType::uint8);
  for (int64_t i = 0; i < 32; ++i) image.data<uint8_t>()[i] = 120;
  Augmentation a = draw_augmentation({}, 64, 64, 1, 0, 0);
  a.brightness = 0.1;
  CHECK(int(augment_image(image, a).data<uint8_t>()[100]) == 126);  // 100 + 25.5, ties to even
  a.brightness = 1;
  CHECK(int(augment_image(image, a).data<uint8_t>()[100]) == 255);  // saturates
  a.brightness = 0, a.contrast = 2;
  CHECK(int(augment_image(image, a).data<uint8_t>()[0]) == 140);  // mean 100.16
  a.contrast = 1, a.noise = 0.04, a.noise_seed = 5;
  const Tensor noisy = augment_image(image.cast(DType::float32), a);
  double sum = 0, squares = 0;
  for (const float v : noisy.values<float>()) sum += v - 100.15625, squares += (v - 100.15625) * (v - 100.15625);
  CHECK(std::abs(sum / 4096) < 0.1);
  CHECK(std::sqrt(squares / 4096) == doctest::Approx(std::sqrt(0.8 * 0.8 + 1.76 * 1.76)).epsilon(0.05));  // range 20
  // Draws stay in their ranges and differ from index to index.
  std::set<double> values;
  for (int64_t i = 0; i < 100; ++i) {
    const auto d = draw_augmentation({.brightness = 0.2, .contrast = 0.3, .noise = 0.1}, 8, 8, 1, 0, i);
    CHECK((std::abs(d.brightness) <= 0.2 && std::abs(d.contrast - 1) <= 0.3 && d.noise >= 0 && d.noise <= 0.1));
    values.insert(d.brightness);
  }
  CHECK(values.size() > 90);
}

TEST_CASE("augmentation: impossible options are refused by key") {
  CHECK_THROWS_WITH_AS(check(AugmentOptions{.rotate = 200}), doctest::Contains("augment.rotate"), UsageError);
  CHECK_THROWS_WITH_AS(check(AugmentOptions{.scale = -1}), doctest::Contains("augment.scale"), UsageError);
  CHECK_THROWS_WITH_AS(check(AugmentOptions{.brightness = 3}), doctest::Contains("augment.brightness"), UsageError);
  CHECK_THROWS_WITH_AS(check(AugmentOptions{.contrast = -0.1}), doctest::Contains("augment.contrast"), UsageError);
  CHECK_THROWS_WITH_AS(check(AugmentOptions{.noise = 2}), doctest::Contains("augment.noise"), UsageError);
  CHECK_THROWS_WITH_AS(check(AugmentOptions{.crop = {0, 5}}), doctest::Contains("augment.crop"), UsageError);
}

TEST_SUITE_END();

}  // namespace
}  // namespace glia
