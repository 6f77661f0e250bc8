// Trainings that start from another one's weights: what is taken, what is listed, what is refused; names of other frameworks.
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <random>

#include "data/safetensors.h"
#include "models/mask_rcnn.h"
#include "models/weight_names.h"
#include "tests/paths.h"
#include "tests/same_bits.h"
#include "tests/train_fixture.h"
#include "train/transfer.h"

using namespace glia;
using tests::same_bits;
using tests::TemporaryFolder;
using tests::TinyNet;

namespace {

Weights with(StateDict state, bool match_by_suffix = false) {
  Weights weights = weights_of(state, "file");
  weights.match_by_suffix = match_by_suffix;
  return weights;
}

TransferReport transfer(Module& net, const Weights& weights, std::vector<std::string> ignore = {}) {
  return transfer_weights(net, weights, {.weights = "file", .ignore = std::move(ignore)});
}

StateDict state_of(uint64_t seed) {
  TinyNet net;
  net.initialize(seed);
  return net.state_dict();
}

MaskRcnnOptions small(int64_t classes) {
  MaskRcnnOptions o;
  o.resnet.stem_channels = 4;
  o.resnet.res2_channels = 8;
  o.resnet.width_per_group = 4;
  o.fpn_channels = 8;
  o.roi_heads.num_classes = classes;
  o.roi_heads.box_fc_dim = 12;
  o.roi_heads.mask_conv_dim = 6;
  return o;
}

}  // namespace

TEST_SUITE_BEGIN("weights");

TEST_CASE("transfer: matched, missing, ignored and unused tensors") {
  TinyNet net;
  net.initialize(2);
  const StateDict own = net.state_dict();
  StateDict given = state_of(1);
  given.erase("second.bias");
  given["more.weight"] = Tensor::zeros({1});
  const TransferReport report = transfer(net, with(given), {"second.w*"});
  CHECK(report.matched.size() == own.size() - 2);
  CHECK(report.missing == std::vector<std::string>{"second.bias"});
  CHECK(report.ignored == std::vector<std::string>{"second.weight"});
  CHECK(report.unused == std::vector<std::string>{"more.weight"});
  const StateDict now = net.state_dict();
  CHECK(same_bits(now.at("first.weight"), given.at("first.weight")));
  CHECK(same_bits(now.at("second.weight"), own.at("second.weight")));
  CHECK(same_bits(now.at("second.bias"), own.at("second.bias")));
  for (const char* part : {"missing", "second.bias", "ignored", "unused", "more.weight"})
    CHECK(report.table().find(part) != std::string::npos);
}

TEST_CASE("transfer: a last layer for other classes stays fresh, another width is refused") {
  TinyNet net;
  net.initialize(2);
  const StateDict own = net.state_dict();
  StateDict given = state_of(1);
  given["second.weight"] = Tensor::full({3, 4, 3, 3}, 1);
  given["second.bias"] = Tensor::full({3}, 1);
  const TransferReport report = transfer(net, with(given));
  REQUIRE(report.reinitialized.size() == 2);
  CHECK(report.reinitialized[1].find("(3, 4, 3, 3)) in the file") == std::string::npos);
  CHECK(report.reinitialized[1].find("second.weight ((3, 4, 3, 3) in the file, (1, 4, 3, 3) here)") != std::string::npos);
  CHECK(same_bits(net.state_dict().at("second.weight"), own.at("second.weight")));
  CHECK(same_bits(net.state_dict().at("first.weight"), given.at("first.weight")));
  given["second.weight"] = Tensor::full({1, 8, 3, 3}, 1);
  CHECK_THROWS_WITH_AS(transfer(net, with(given)),
                       doctest::Contains("second.weight is (1, 8, 3, 3), the model wants (1, 4, 3, 3)"), DataError);
  transfer(net, with(given), {"second.weight"});
}

TEST_CASE("transfer: half precision becomes float32; numbers that are not finite are refused") {
  TinyNet net;
  StateDict given = state_of(1);
  const Tensor half = given.at("first.weight").cast(DType::float16);
  given["first.weight"] = half;
  transfer(net, with(given));
  CHECK(same_bits(net.state_dict().at("first.weight"), half.cast(DType::float32)));
  given["norm.bias"].data<float>()[1] = NAN;
  CHECK_THROWS_WITH_AS(transfer(net, with(given)), doctest::Contains("norm.bias holds numbers that are not finite"), DataError);
}

TEST_CASE("transfer: files and patterns that fit nothing") {
  TinyNet net;
  CHECK_THROWS_WITH_AS(
      transfer(net, with({{"conv1.weight", Tensor::zeros({1})}})),
      doctest::Contains("none of its 1 tensors fits the model: it has conv1.weight; the model wants first.weight"), DataError);
  CHECK_THROWS_WITH_AS(transfer(net, with(state_of(1)), {"secnd.*"}), doctest::Contains("'secnd.*' matches no tensor"),
                       UsageError);
}

TEST_CASE("transfer: the longest ending of a name, where a file asks for it") {
  TinyNet net;
  net.initialize(2);
  struct Outer : Module {
    TinyNet backbone, other;
    Outer() { add("backbone", backbone), add("other", other); }
  } outer;
  const Tensor a = Tensor::full({4, 1, 3, 3}, 1), b = Tensor::full({4, 1, 3, 3}, 2);
  CHECK_THROWS_AS(transfer(outer, with({{"backbone.weight", a}})), DataError);
  const TransferReport report =
      transfer(outer, with({{"backbone.first.weight", a}, {"first.weight", b}, {"st.weight", b}}, true));
  CHECK(report.matched.size() == 2);
  CHECK(report.unused == std::vector<std::string>{"st.weight"});  // no ending after a dot
  CHECK(same_bits(outer.state_dict().at("backbone.first.weight"), a));
  CHECK(same_bits(outer.state_dict().at("other.first.weight"), b));
  CHECK_THROWS_WITH_AS(transfer(outer, with({{"first.weight", a}}, true)), doctest::Contains("fits two tensors of the model"),
                       DataError);
  // A file whose names are whole.
  CHECK_THROWS_WITH_AS(transfer(outer, with({{"first.weight", a}})), doctest::Contains("none of its 1 tensors fits"), DataError);
}

TEST_CASE("transfer: a Caffe2 backbone finds its place in Mask R-CNN") {
  MaskRcnnOptions options = small(2);
  options.resnet.stem_channels = 4;
  options.resnet.res2_channels = 8;
  options.resnet.width_per_group = 4;
  MaskRcnn net(options);
  Weights weights = model_weights(read_weights(tests::fixtures_folder() / "checkpoints/c2_R-50_tiny.pkl"));
  const TransferReport report = transfer(net, weights);
  const auto has = [](const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  CHECK(has(report.matched, "backbone.bottom_up.stem.conv1.norm.running_var"));
  CHECK(has(report.matched, "backbone.bottom_up.res2.0.shortcut.weight"));
  CHECK(has(report.missing, "backbone.fpn_lateral2.weight"));
  CHECK(has(report.unused, "stem.conv1.bias"));
  CHECK(has(report.unused, "fc1000.weight"));
  const Tensor want = weights.load(*weights.find("res2.1.conv3.weight"));
  CHECK(same_bits(net.state_dict().at("backbone.bottom_up.res2.1.conv3.weight"), want));
}

TEST_CASE("names: detectron2's to torchvision's and back, for every tensor of R50-FPN") {
  std::ifstream list(tests::fixtures_folder() / "mask_rcnn_r50_fpn_names.txt");
  int count = 0;
  for (std::string line; std::getline(list, line); ++count) {
    const std::string name = line.substr(0, line.find(' '));
    const std::string there = name_to_torchvision(name, TorchvisionModel::v1);
    CHECK((there != name) == (name.find("box_predictor") == std::string::npos));  // the one part that is called alike
    CHECK(name_from_torchvision(there, TorchvisionModel::v1) == name);
  }
  CHECK(count == 307);
  const std::pair<const char*, const char*> old[] = {
      {"backbone.fpn.layer_blocks.2.bias", "backbone.fpn_output4.bias"},
      {"rpn.head.conv.weight", "proposal_generator.rpn_head.conv.weight"},
      {"roi_heads.mask_head.mask_fcn3.weight", "roi_heads.mask_head.mask_fcn3.weight"},
      {"backbone.body.layer4.2.bn3.running_var", "backbone.bottom_up.res5.2.conv3.norm.running_var"}};
  for (const auto& [there, here] : old) CHECK(name_from_torchvision(there, TorchvisionModel::v1) == here);
}

TEST_CASE("names: a Mask R-CNN's weights to torchvision and back, both models, to the bit") {
  for (const TorchvisionModel model : {TorchvisionModel::v1, TorchvisionModel::v2}) {
    MaskRcnnOptions options = torchvision_options(model, 3);
    options.resnet.stem_channels = 4;
    options.resnet.res2_channels = 8;
    options.resnet.width_per_group = 4;
    options.fpn_channels = 8;
    options.roi_heads.box_fc_dim = 12;
    options.roi_heads.mask_conv_dim = options.roi_heads.box_conv_dim = 6;
    MaskRcnn net(options);
    net.initialize(5);
    const StateDict own = net.state_dict(), there = to_torchvision(own);
    CHECK(there.at("roi_heads.box_predictor.cls_score.bias").dim(0) == 4);
    CHECK(there.at("roi_heads.box_predictor.bbox_pred.weight").dim(0) == 16);
    CHECK(there.at("roi_heads.mask_predictor.mask_fcn_logits.weight").dim(0) == 4);
    CHECK(there.contains(model == TorchvisionModel::v1 ? "roi_heads.box_head.fc6.weight" : "roi_heads.box_head.5.weight"));
    const Weights back = with_own_names(with(there));
    REQUIRE(back.tensors.size() == own.size());
    for (const auto& [name, tensor] : own) {
      INFO(name);
      REQUIRE(back.find(name));
      CHECK(same_bits(back.load(*back.find(name)), tensor));
    }
  }
  MaskRcnnOptions agnostic = small(2);
  agnostic.roi_heads.cls_agnostic_bbox_reg = true;
  CHECK_THROWS_WITH_AS(to_torchvision(MaskRcnn(agnostic).state_dict()), doctest::Contains("4 rows for 2 classes"), DataError);
  CHECK_THROWS_AS(to_torchvision({{"a", Tensor::zeros({1})}}), DataError);
  StateDict one_mask = MaskRcnn(small(2)).state_dict();
  one_mask["roi_heads.mask_head.predictor.bias"] = Tensor::zeros({1});
  CHECK_THROWS_WITH_AS(to_torchvision(one_mask), doctest::Contains("mask_head.predictor.bias has 1 rows for 2 classes"),
                       DataError);
}

TEST_CASE("transfer: a network's weights through every format come back to the bit, those of torchvision's names too") {
  const TemporaryFolder folder;
  MaskRcnn net(small(3));
  net.initialize(11);
  const StateDict own = net.state_dict();
  for (const WeightsFormat format :
       {WeightsFormat::safetensors, WeightsFormat::torch, WeightsFormat::pickle, WeightsFormat::npz}) {
    for (const bool torchvision : {false, true}) {
      CAPTURE(int(format));
      CAPTURE(torchvision);
      write_weights(folder / "w", weights_of(torchvision ? to_torchvision(own) : own, "memory"), format);
      MaskRcnn other(small(3));
      other.initialize(12);
      const TransferReport report = transfer(other, with_own_names(model_weights(read_weights(folder / "w"))));
      CHECK(report.matched.size() == own.size());
      CHECK(report.unused.empty());
      for (const auto& [name, tensor] : other.state_dict()) REQUIRE(same_bits(tensor, own.at(name)));
    }
  }
}

TEST_CASE("names: torchvision's ResNet is a backbone") {
  const Tensor t = Tensor::zeros({1});
  const Weights own = with_own_names(with({{"conv1.weight", t},
                                           {"bn1.running_mean", t},
                                           {"layer1.0.conv1.weight", t},
                                           {"layer4.0.downsample.1.bias", t},
                                           {"fc.weight", t}}));
  std::vector<std::string> names;
  for (const StoredTensor& s : own.tensors) names.push_back(s.name);
  CHECK(names ==
        std::vector<std::string>{"backbone.bottom_up.res2.0.conv1.weight", "backbone.bottom_up.res5.0.shortcut.norm.bias",
                                 "backbone.bottom_up.stem.conv1.norm.running_mean", "backbone.bottom_up.stem.conv1.weight"});
  CHECK_THROWS_WITH_AS(with_own_names(with({{"W2", t}, {"encoder.pos_embed", t}})), doctest::Contains("Cellpose-SAM"), DataError);
  const Weights other = with_own_names(with({{"conv1.weight", t}}));
  CHECK(other.find("conv1.weight"));
}

TEST_SUITE_END();
