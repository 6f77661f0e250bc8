// Keras' files: samples that Keras 3.15 wrote, the network of one against what Keras predicts, and files made to do harm.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <random>

#include "autograd/operators.h"
#include "data/atomic_file.h"
#include "data/hdf5.h"
#include "models/unet.h"
#include "models/weight_names.h"
#include "models/weight_names_keras.h"
#include "tests/paths.h"
#include "tests/same_weights.h"
#include "train/transfer.h"

using namespace glia;
using namespace glia::tests;
namespace fs = std::filesystem;

namespace {

fs::path sample(const std::string& name) { return source_folder() / "tests/fixtures/keras" / name; }
const char* const samples[] = {"keras_unet.h5", "keras_unet.weights.h5"};

// Reads a copy of these very bytes, so that the address sanitizer sees every step outside.
Weights read_bytes(const std::string& content, std::vector<std::byte>& bytes) {
  bytes.resize(content.size());
  if (!content.empty()) std::memcpy(bytes.data(), content.data(), content.size());
  bytes.shrink_to_fit();
  Weights weights;
  weights.source = "sample.h5";
  read_hdf5(bytes, weights);
  return weights;
}

// Everything that the file holds is read. Returns whether it could be; an error has to be a DataError that names the file.
bool survives(const std::string& content) {
  std::vector<std::byte> bytes;
  try {
    const Weights weights = read_bytes(content, bytes);
    for (const StoredTensor& t : weights.tensors) weights.load(t);
    return true;
  } catch (const DataError& e) {
    CHECK(std::string_view(e.what()).starts_with("sample.h5: "));
    return false;
  }
}

std::string message_of(const std::string& content) {
  std::vector<std::byte> bytes;
  try {
    read_bytes(content, bytes);
  } catch (const DataError& e) {
    return e.what();
  }
  return "no error";
}

std::string with(std::string content, size_t at, uint64_t value, size_t count = 8) {
  for (size_t i = 0; i < count; ++i) content.at(at + i) = static_cast<char>(value >> 8 * i & 0xff);
  return content;
}

uint64_t number_at(const std::string& content, size_t at) {
  uint64_t value = 0;
  std::memcpy(&value, content.data() + at, sizeof value);
  return value;
}

size_t place_of(const std::string& content, const std::string& part) {
  const size_t at = content.find(part);
  REQUIRE(at != std::string::npos);
  return at;
}

// Where the layout of the data set at `address` of `size` bytes is told.
size_t layout_of(const std::string& content, uint64_t size) {
  for (size_t at = 0; at + 18 <= content.size(); ++at)
    if (content[at] == 3 && content[at + 1] == 1 && number_at(content, at + 10) == size &&
        number_at(content, at + 2) < content.size())
      return at;
  FAIL("no layout");
  return 0;
}

}  // namespace

TEST_SUITE_BEGIN("hdf");

TEST_CASE("hdf5: both layouts of Keras read to the bit, kernels turned, layers in the order of the model") {
  const Weights expected = read_weights(sample("keras_unet.expected.safetensors"));
  for (const char* file : samples) {
    CAPTURE(file);
    const Weights stored = read_weights(sample(file));
    CHECK(stored.format == "Keras (HDF5)");
    const Weights own = with_own_names(model_weights(stored));
    CHECK(own.tensors.size() == expected.tensors.size() - 2);  // image, probability
    for (const StoredTensor& t : own.tensors) {
      CAPTURE(t.name);
      const StoredTensor* want = expected.find(t.name);
      REQUIRE(want);
      CHECK(t.shape == want->shape);
      const Tensor a = own.load(t), b = expected.load(*want);
      CHECK(std::memcmp(a.raw(), b.raw(), b.bytes()) == 0);
    }
  }
  const Weights whole = read_weights(sample("keras_unet.h5"));
  CHECK(std::get<std::string>(whole.scalars.at("keras_version")) == "3.15.1");
  CHECK(std::get<std::string>(whole.scalars.at("model_weights/layer_names/0")) == "input_layer");
  REQUIRE(whole.find("optimizer_weights/adam/iteration"));
  CHECK(whole.find("optimizer_weights/adam/iteration")->dtype == "I32");
}

TEST_CASE("hdf5: a UNet of Keras predicts here what it predicts there") {
  const Weights expected = read_weights(sample("keras_unet.expected.safetensors"));
  const Tensor image = expected.load(*expected.find("image")), want = expected.load(*expected.find("probability"));
  for (const char* file : samples) {
    const auto net = make_unet({.name = "unet_keras", .base_channels = 2, .depth = 1, .head = "keras"});
    const TransferReport report = transfer_weights(*net, with_own_names(model_weights(read_weights(sample(file)))), {});
    CHECK(report.missing.empty());
    CHECK(report.reinitialized.empty());
    net->eval();
    const NoGrad no_grad;
    const Tensor got = sigmoid((*net)(image));
    REQUIRE(got.size() == want.size());
    for (int64_t i = 0; i < got.size(); ++i) CHECK(std::abs(got.data<float>()[i] - want.data<float>()[i]) < 1e-5);
  }
}

TEST_CASE("hdf5: names of other versions of Keras") {
  const auto names = [](const std::vector<std::string>& stored) {
    std::map<std::string, Tensor> tensors;
    for (const std::string& name : stored) tensors[name] = Tensor::zeros({1});
    std::string all;
    for (const StoredTensor& t : with_own_names(weights_of(tensors, "w.h5")).tensors) all += t.name + " ";
    return all;
  };
  // a second model of a process; numbers are not texts
  CHECK(names({"conv2d_9/conv2d_9/kernel:0", "conv2d_10/conv2d_10/kernel:0", "conv2d_10/conv2d_10/bias:0"}) ==
        "conv2d.weight conv2d_1.bias conv2d_1.weight ");
  CHECK(names({"batch_normalization/batch_normalization/gamma:0", "batch_normalization/batch_normalization/moving_mean:0",
               "up/model/up/kernel:0"}) == "batch_normalization.running_mean batch_normalization.weight up.weight ");
  CHECK(names({"_layer_checkpoint_dependencies/batch_normalization/vars/3", "layers/conv2d_transpose_2/vars/0",
               "optimizer/vars/0"}) == "batch_normalization.running_var conv2d_transpose.weight ");
  CHECK(names({"fc.weight", "kernel"}) == "fc.weight kernel ");  // not Keras'
  CHECK_THROWS_WITH_AS(names({"layers/conv2d/vars/0", "_layer_checkpoint_dependencies/conv2d/vars/0"}),
                       doctest::Contains("two tensors become conv2d.weight"), DataError);
}

TEST_CASE("hdf5: files that are cut off, at every byte") {
  for (const char* file : samples) {
    const std::string whole = read_file(sample(file));
    CHECK(survives(whole));
    for (size_t size = 0; size < whole.size(); size += size < 4096 ? 1 : 37) survives(whole.substr(0, size));
    CHECK(message_of(whole.substr(0, whole.size() / 2)).find("cut off") != std::string::npos);
  }
}

TEST_CASE("hdf5: bytes and words changed at random never do more than an error") {
  std::mt19937_64 random(5);
  size_t refused = 0;
  for (const char* file : samples) {
    const std::string whole = read_file(sample(file));
    for (int i = 0; i < 4000; ++i) {
      std::string changed = whole;
      for (uint64_t k = 0; k <= random() % 4; ++k) {
        const size_t at = random() % (whole.size() - 8);
        if (random() % 2 == 0) {
          changed[at] = static_cast<char>(random());
        } else {  // another address of the file, or none
          changed = with(changed, at / 8 * 8, random() % 3 == 0 ? ~uint64_t{0} : random() % (2 * whole.size()));
        }
      }
      refused += !survives(changed);
    }
  }
  CHECK(refused > 500);
  CHECK(refused < 8000);
}

TEST_CASE("hdf5: files made to do harm") {
  const std::string whole = read_file(sample("keras_unet.weights.h5"));
  const size_t kernel = layout_of(whole, 3 * 3 * 2 * 2 * 4);
  const uint64_t root = number_at(whole, 64);
  const size_t node = place_of(whole, "SNOD"), tree = place_of(whole, "TREE");
  const struct {
    const char* what;
    std::string content, phrase;
  } files[] = {
      {"a newer superblock", with(whole, 8, 3, 1), "superblock version 3"},
      {"short addresses", with(whole, 13, 4, 1), "addresses of another size"},
      {"a root outside", with(whole, 64, uint64_t{1} << 60), "cut off"},
      {"addresses that begin outside", with(whole, 24, whole.size() + 1), "damaged"},
      {"data outside", with(whole, kernel + 2, whole.size() - 8), "cut off"},
      {"data at the end of the address space", with(whole, kernel + 2, ~uint64_t{0} - 8), "cut off"},
      {"data of 2^63 bytes", with(whole, kernel + 10, uint64_t{1} << 63), "cut off"},
      {"data of none", with(whole, kernel + 10, 0), "reaches element 35, but its storage holds 0"},
      {"chunks", with(whole, kernel + 1, 2, 1), "stored in chunks"},
      {"a virtual data set", with(whole, kernel, 4, 1), "layout of version 4"},
      {"a link to a name", with(whole, node + 8 + 16, 2, 4), "is a link to a name"},
      {"a group that holds itself", with(whole, node + 8 + 8, root), "does one hold itself"},
      {"a tree that holds itself", with(with(whole, tree + 5, 1, 1), tree + 24 + 8, tree), "deeper than 16"},
      {"a heap elsewhere", with(whole, place_of(whole, "HEAP"), 0, 4), "no HEAP"},
      {"a header that goes on in itself", with(with(whole, root + 16, 16 | 16 << 16, 8), root + 24, root + 16), "cut off"},
  };
  for (const auto& f : files) {
    CAPTURE(f.what);
    CHECK(message_of(f.content).find(f.phrase) != std::string::npos);
    CHECK_MESSAGE(message_of(f.content).starts_with("sample.h5: "), message_of(f.content));
    if (message_of(f.content).find(f.phrase) == std::string::npos) MESSAGE(message_of(f.content));
  }
}

TEST_CASE("hdf5: a UNet is written as Keras writes it, data set by data set") {
  const TemporaryFolder folder;
  for (const char* file : samples) {  // layer_names of .h5 put the layers in order; the other has them so
    CAPTURE(file);
    const Weights own = with_own_names(model_weights(read_weights(sample(file))));
    write_weights(folder / "w.weights.h5", to_keras(own), WeightsFormat::hdf5);
    const Weights got = read_weights(folder / "w.weights.h5"), want = read_weights(sample("keras_unet.weights.h5"));
    CHECK(got.format == "Keras (HDF5)");
    CHECK(got.tensors.size() == want.tensors.size() - 2);  // the optimizer's
    for (const StoredTensor& t : got.tensors) {
      CAPTURE(t.name);
      const StoredTensor* there = want.find(t.name);
      REQUIRE(there);
      CHECK(t.dtype == there->dtype);
      CHECK(t.shape == there->shape);
      const StoredBytes a = t.bytes("a"), b = there->bytes("b");
      CHECK(std::equal(a.view.begin(), a.view.end(), b.view.begin(), b.view.end()));
    }
    const Weights back = with_own_names(got);
    REQUIRE(back.tensors.size() == own.tensors.size());
    for (size_t i = 0; i < own.tensors.size(); ++i) {
      CHECK(back.tensors[i].name == own.tensors[i].name);
      const Tensor a = back.load(back.tensors[i]), b = own.load(own.tensors[i]);
      CHECK(a.shape() == b.shape());
      CHECK(std::memcmp(a.raw(), b.raw(), b.bytes()) == 0);
    }
  }
}

TEST_CASE("hdf5: written types, shapes, and groups larger than a node") {
  const TemporaryFolder folder;
  std::map<std::string, Tensor> tensors{{"f16", Tensor::full({3}, 1.5).cast(DType::float16)},
                                        {"f32", Tensor::from<float>({2, 2}, std::vector<float>{1, -0.f, 1e-40f, 3})},
                                        {"f64", Tensor::scalar(2.5, DType::float64)},
                                        {"i32", Tensor::full({1, 2, 3}, -7, DType::int32)},
                                        {"i64", Tensor::full({2}, -70000000000.0, DType::int64)},
                                        {"u8", Tensor::full({3}, 200, DType::uint8)},
                                        {"none", Tensor::zeros({0, 3})}};
  for (int i = 0; i < 300; ++i) tensors[fmt::format("many/{}/x", i)] = Tensor::full({1}, i);  // 38 nodes of a tree that holds 38
  const Weights made = weights_of(tensors, "made");
  write_weights(folder / "w.h5", made, WeightsFormat::hdf5);
  const std::string content = read_file(folder / "w.h5");
  CHECK(number_at(content, 40) == content.size());  // the end that the superblock tells
  check_same_weights(read_weights(folder / "w.h5"), made);
  // Names are searched by the tree's keys, each of which is the last name of the node before it.
  size_t tree = content.find("TREE"), largest = tree;
  for (; tree != std::string::npos; tree = content.find("TREE", tree + 1))
    if (content[tree + 6] > content[largest + 6]) largest = tree;
  REQUIRE(content[largest + 6] == 38);
  const size_t names = content.rfind("HEAP", largest) + 32;
  const auto name_at = [&](size_t at) { return std::string(content.c_str() + names + number_at(content, at)); };
  CHECK(name_at(largest + 24) == "");
  for (size_t i = 0; i < 38; ++i) {
    const size_t node = number_at(content, largest + 32 + 16 * i), last = node + 8 + 40 * (size_t(content[node + 6]) - 1);
    CHECK(content.substr(node, 4) == "SNOD");
    CHECK(name_at(last) == name_at(largest + 40 + 16 * i));
    CHECK(name_at(largest + 24 + 16 * i) < name_at(node + 8));
  }
  const Weights half = weights_of({{"b", Tensor::full({2}, 0.5).cast(DType::bfloat16)}}, "made");
  write_weights(folder / "w.h5", half, WeightsFormat::hdf5);  // NumPy has no such type
  CHECK(read_weights(folder / "w.h5").tensors[0].dtype == "F32");
  CHECK(read_weights(folder / "w.h5").load(read_weights(folder / "w.h5").tensors[0]).data<float>()[1] == 0.5f);
}

TEST_CASE("hdf5: what cannot be written for Keras") {
  const TemporaryFolder folder;
  const auto write = [&](const std::map<std::string, Tensor>& tensors) {
    write_weights(folder / "w.h5", weights_of(tensors, "made"), WeightsFormat::hdf5);
  };
  const Tensor one = Tensor::zeros({1});
  CHECK_THROWS_WITH_AS(write({{"a", Tensor::zeros({1}, DType::boolean)}}), doctest::Contains("made: \"a\" is BOOL"), DataError);
  for (const char* name : {"", "/a", "a/", "a//b", "a/./b"})
    CHECK_THROWS_WITH_AS(write({{name, one}}), doctest::Contains("cannot be the name"), DataError);
  CHECK_THROWS_WITH_AS(write({{"a", one}, {"a/b", one}}), doctest::Contains("cannot be the name"), DataError);
  CHECK_FALSE(fs::exists(folder / "w.h5"));
  for (const char* name : {"inc.conv.weight", "conv2d.running_mean", "conv2d", "conv2d_01x.weight"})
    CHECK_THROWS_WITH_AS(to_keras(weights_of({{name, one}}, "made")), doctest::Contains("no layer that Keras has"), DataError);
  const Weights norm = to_keras(weights_of({{"batch_normalization_2.running_var", one}}, "made"));
  CHECK(norm.tensors[0].name == "layers/batch_normalization_2/vars/3");
}

TEST_SUITE_END();
