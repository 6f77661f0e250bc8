// Files of weights: every sample of the fixtures to the bit, every writer's round trip, names of Caffe2, a model's part of a file.
#include <doctest/doctest.h>
#include <rapidjson/document.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "data/atomic_file.h"
#include "data/npy.h"
#include "data/safetensors.h"
#include "data/weights.h"
#include "tests/paths.h"
#include "tests/same_weights.h"

using namespace glia;
using tests::check_same_weights;
using tests::TemporaryFolder;
namespace fs = std::filesystem;

namespace {

fs::path sample(const std::string& name) { return tests::fixtures_folder() / "checkpoints" / name; }

Scalar scalar_of(const rapidjson::Value& v) {
  if (v.IsBool()) return v.GetBool();
  if (v.IsInt64()) return v.GetInt64();
  if (v.IsDouble()) return v.GetDouble();
  return std::string(v.GetString());
}

void check_sample(const std::string& name) {
  INFO(name);
  const Weights got = read_weights(sample(name));
  const std::string twin = name.substr(0, name.rfind('.')) + ".expected.safetensors";
  const Weights want = read_weights(sample(twin));
  check_same_weights(got, want);
  rapidjson::Document scalars;
  scalars.Parse(std::get<std::string>(want.scalars.at("scalars")).c_str());
  REQUIRE(scalars.IsObject());
  std::map<std::string, Scalar> wanted;
  for (const auto& m : scalars.GetObject()) wanted[m.name.GetString()] = scalar_of(m.value);
  if (got.format == "safetensors") wanted = {{"format", std::string("pt")}, {"note", std::string("näive ünïcode")}};
  CHECK(got.scalars == wanted);
}

std::vector<std::string> names_of(const Weights& weights) {
  std::vector<std::string> names;
  for (const StoredTensor& t : weights.tensors) names.push_back(t.name);
  return names;
}

}  // namespace

TEST_SUITE_BEGIN("weights");

TEST_CASE("weights: every sample file reads to the bit") {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(sample(""))) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".expected.safetensors")) continue;
    check_sample(name);
    ++count;
  }
  CHECK(count == 11);
}

TEST_CASE("weights: a file's pages are given back while it is read, memory that is no file's is not touched") {
  const TemporaryFolder folder;
  Tensor big({3, 1 << 20});  // 12 MB: several pieces
  for (int64_t i = 0; i < big.size(); ++i) big.data<float>()[i] = static_cast<float>(i % 1013) - 500;
  const Weights made = weights_of({{"a", big}, {"b", Tensor::full({5}, 2)}}, "made");
  const std::pair<const char*, WeightsFormat> formats[] = {{"w.safetensors", WeightsFormat::safetensors},
                                                           {"w.pth", WeightsFormat::torch},
                                                           {"w.pkl", WeightsFormat::pickle},
                                                           {"w.npz", WeightsFormat::npz}};
  for (const auto& [name, format] : formats) {
    CAPTURE(name);
    write_weights(folder / name, made, format);
    const Weights from_file = read_weights(folder / name);
    const std::string content = read_file(folder / name);
    const Weights from_memory = parse_weights(std::as_bytes(std::span(content)), name);
    for (const Weights* weights : {&from_file, &from_memory}) {
      for (int time = 0; time < 2; ++time) {  // pages that were given back are read again
        const StoredTensor* t = weights->find(format == WeightsFormat::pickle ? "model/a" : "a");
        REQUIRE(t);
        CHECK(std::memcmp(weights->load(*t).raw(), big.raw(), big.bytes()) == 0);
      }
    }
    CHECK(content == read_file(folder / name));
  }
}

TEST_CASE("weights: formats are told by content") {
  const TemporaryFolder folder;
  const std::pair<const char*, const char*> kinds[] = {{"state_zip.pth", "PyTorch (zip)"},
                                                       {"state_legacy.pth", "PyTorch (before 1.6)"},
                                                       {"zoo_protocol2.pkl", "detectron2 (pickle)"},
                                                       {"c2_R-50_tiny.pkl", "Caffe2 (pickle)"},
                                                       {"mixed.safetensors", "safetensors"}};
  for (const auto& [name, format] : kinds) {
    fs::copy_file(sample(name), folder / "misnamed.png", fs::copy_options::overwrite_existing);
    CHECK(read_weights(folder / "misnamed.png").format == format);
  }
  CHECK(read_weights(sample("zoo_protocol4.pkl")).match_by_suffix);
  CHECK(read_weights(sample("c2_R-50_tiny.pkl")).match_by_suffix);
  CHECK_FALSE(read_weights(sample("state_zip.pth")).match_by_suffix);
}

TEST_CASE("weights: a PyTorch archive whose members are deflated") {
  const TemporaryFolder folder;
  const ZipFile stored(sample("state_zip.pth"));
  ZipWriter deflated(folder / "w.pth");
  for (const ZipEntry& e : stored.entries()) {
    const std::vector<std::byte> bytes = stored.read(e);
    deflated.add(e.name, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, true);
  }
  deflated.commit();
  check_same_weights(read_weights(folder / "w.pth"), read_weights(sample("state_zip.pth")));
}

TEST_CASE("weights: every writer's file reads back to the bit") {
  const TemporaryFolder folder;
  const Weights all = read_weights(sample("mixed.safetensors"));
  for (const WeightsFormat format :
       {WeightsFormat::safetensors, WeightsFormat::torch, WeightsFormat::pickle, WeightsFormat::npz}) {
    CAPTURE(int(format));
    write_weights(folder / "a", all, format);
    write_weights(folder / "b", all, format);
    CHECK(read_file(folder / "a") == read_file(folder / "b"));
    Weights got = model_weights(read_weights(folder / "a"));
    Weights want = all;
    if (format == WeightsFormat::pickle || format == WeightsFormat::npz) {  // NumPy has no bfloat16
      REQUIRE(got.find("bfloat16"));
      CHECK(got.find("bfloat16")->dtype == "F32");
      const Tensor a = got.load(*got.find("bfloat16")), b = all.load(*all.find("bfloat16")).cast(DType::float32);
      CHECK(std::memcmp(a.raw(), b.raw(), a.bytes()) == 0);
      const auto drop = [](Weights& w) { std::erase_if(w.tensors, [](const auto& t) { return t.name == "bfloat16"; }); };
      drop(got);
      drop(want);
    }
    check_same_weights(got, want);
  }
}

TEST_CASE("weights: strided, rotated and shared tensors are written dense") {
  const TemporaryFolder folder;
  for (const char* name : {"state_legacy.pth", "c2_detector_tiny.pkl", "zoo_protocol2.pkl"}) {
    const Weights weights = read_weights(sample(name));
    write_weights(folder / "w.pth", weights, WeightsFormat::torch);
    check_same_weights(read_weights(folder / "w.pth"), weights);
    const SafetensorsFile twin(sample(std::string(name).substr(0, std::string(name).rfind('.')) + ".expected.safetensors"));
    write_weights(folder / "w.safetensors", weights, WeightsFormat::safetensors);
    const SafetensorsFile file(folder / "w.safetensors");
    CHECK(file.entries().size() == twin.entries().size());
  }
}

TEST_CASE("weights: numbers that a format cannot hold") {
  const TemporaryFolder folder;
  Weights weights = weights_of({{"a", Tensor::zeros({2})}}, "memory");
  weights.tensors[0].dtype = "U32";
  CHECK_THROWS_WITH_AS(write_weights(folder / "w.pth", weights, WeightsFormat::torch), doctest::Contains("U32"), DataError);
  CHECK_FALSE(fs::exists(folder / "w.pth"));
  weights.tensors[0].dtype = "F8_E4M3";
  weights.tensors[0].shape = {8};
  CHECK_THROWS_WITH_AS(write_weights(folder / "w.npz", weights, WeightsFormat::npz), doctest::Contains("F8_E4M3"), DataError);
  weights = weights_of({{"../a", Tensor::zeros({2})}}, "memory");
  CHECK_THROWS_WITH_AS(write_weights(folder / "w.npz", weights, WeightsFormat::npz), doctest::Contains("../a"), DataError);
}

TEST_CASE("weights: NumPy's files") {
  const TemporaryFolder folder;
  const Tensor a = Tensor::from<float>({2, 3}, {1, 2, 3, 4, 5, 6}), b = Tensor::from<int64_t>({2}, {7, -8});
  write_npy(folder / "a.npy", a);
  const Weights one = read_weights(folder / "a.npy");
  REQUIRE(names_of(one) == std::vector<std::string>{"array"});
  CHECK(one.load(one.tensors[0]).data<float>()[5] == 6);
  for (const bool deflate : {false, true}) {
    write_npz(folder / "a.npz", {{"x.weight", a}, {"b", b}}, deflate);
    const Weights got = read_weights(folder / "a.npz");
    CHECK(names_of(got) == std::vector<std::string>{"b", "x.weight"});
    check_same_weights(got, weights_of({{"x.weight", a}, {"b", b}}, "memory"));
  }
}

TEST_CASE("weights: the model's part of a file") {
  CHECK(names_of(model_weights(read_weights(sample("train_zip.pth")))) == std::vector<std::string>{"bias", "weight"});
  CHECK(names_of(model_weights(read_weights(sample("train_old_legacy.pth")))) == std::vector<std::string>{"bias", "weight"});
  CHECK(names_of(model_weights(read_weights(sample("data_parallel_protocol4.pt")))) ==
        std::vector<std::string>{"bias", "weight"});
  CHECK(model_weights(read_weights(sample("zoo_protocol2.pkl"))).find("backbone.fpn_lateral2.weight"));
  const TemporaryFolder folder;
  const Tensor one = Tensor::full({2}, 1), two = Tensor::full({2}, 2);
  write_safetensors(folder / "own.safetensors", {{"w", one}, {"buffer", one}, {"ema.w", two}, {"optimizer.momentum", one}},
                    {{"format", "glia checkpoint 1"}});
  const Weights own = model_weights(read_weights(folder / "own.safetensors"));
  REQUIRE(names_of(own) == std::vector<std::string>{"buffer", "w"});
  CHECK(own.load(*own.find("w")).data<float>()[0] == 2);
  write_safetensors(folder / "foreign.safetensors", {{"w", one}, {"ema.w", two}});
  CHECK(names_of(model_weights(read_weights(folder / "foreign.safetensors"))) == std::vector<std::string>{"ema.w", "w"});
}

TEST_CASE("weights: blob names of Caffe2") {
  const std::pair<const char*, const char*> names[] = {{"res_conv1_bn_gamma", "stem.conv1.norm.weight"},
                                                       {"res_conv1_bn_running_mean", "stem.conv1.norm.running_mean"},
                                                       {"res4_22_branch2c_bn_riv", "res4.22.conv3.norm.running_var"},
                                                       {"res2_0_branch1_bn_running_var", "res2.0.shortcut.norm.running_var"},
                                                       {"fpn_inner_res4_5_sum_lateral_gn_s", "fpn_lateral4.norm.weight"},
                                                       {"fpn_res2_2_sum_gn_bias", "fpn_output2.norm.bias"},
                                                       {"rpn_bbox_pred_b", "proposal_generator.rpn_head.anchor_deltas.bias"},
                                                       {"conv_rpn_w", "proposal_generator.rpn_head.conv.weight"},
                                                       {"head_conv1_gn_s", "box_head.conv1.norm.weight"},
                                                       {"_[mask]_fcn4_b", "mask_head.mask_fcn4.bias"},
                                                       {"conv5_mask_b", "mask_head.deconv.bias"},
                                                       {"pred_w", "linear.weight"}};
  for (const auto& [blob, name] : names) CHECK(name_of_caffe2_blob(blob) == name);
}

TEST_CASE("weights: tensors on which too much is repeated, or out of bounds") {
  const Tensor four = Tensor::zeros({4});
  StoredTensor t = weights_of({{"a", four}}, "memory").tensors[0];
  t.shape = {4, 1'000'000};
  t.strides = {1, 0};
  check_stored(t, "x");  // 16 MB
  t.shape = {4, 2'000'000};
  CHECK_THROWS_WITH_AS(check_stored(t, "x"), doctest::Contains("exhaust memory"), DataError);
  t.shape = {4};
  t.strides = {1};
  t.offset = 1;
  CHECK_THROWS_WITH_AS(check_stored(t, "x"), doctest::Contains("reaches element 4"), DataError);
  t.offset = 0;
  t.shape = {2, 3};
  t.strides = {2, 1};
  CHECK_THROWS_WITH_AS(check_stored(t, "x"), doctest::Contains("reaches element 4"), DataError);
  t.shape = {2, 0, int64_t{1} << 62};
  CHECK_THROWS_AS(check_stored(t, "x"), DataError);
}

TEST_SUITE_END();
