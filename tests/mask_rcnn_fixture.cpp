#include "tests/mask_rcnn_fixture.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "tests/formula_weights.h"

namespace glia::tests {
namespace {

Shape shape_of(const rapidjson::Value& dims) {
  std::vector<int64_t> list;
  for (const auto& d : dims.GetArray()) list.push_back(d.GetInt64());
  return Shape(std::span<const int64_t>(list));
}

Tensor formula(const rapidjson::Value& spec, uint64_t seed) {
  return formula_weights(spec[0].GetString(), shape_of(spec[1]), spec[2].GetDouble(), spec[3].GetDouble(), seed);
}

uint64_t seed_of(const ParityCase& c) { return static_cast<uint64_t>(c.description()["seed"].GetInt64()); }

// Reads keys of params.config into members.
struct Config {
  const rapidjson::Value& values;

  const rapidjson::Value* find(const char* key) const { return values.HasMember(key) ? &values[key] : nullptr; }
  void read(const char* key, int64_t& to) const {
    if (const auto* v = find(key)) to = v->GetInt64();
  }
  void read(const char* key, double& to) const {
    if (const auto* v = find(key)) to = v->GetDouble();
  }
  void read(const char* key, bool& to) const {
    if (const auto* v = find(key)) to = v->GetBool();
  }
  void read(const char* key, std::vector<double>& to) const {
    const auto* v = find(key);
    if (!v) return;
    to.clear();
    for (const auto& x : v->GetArray()) to.push_back(x.GetDouble());
  }
  void read(const char* key, std::array<double, 4>& to) const {
    if (const auto* v = find(key))
      for (unsigned i = 0; i < 4; ++i) to[i] = (*v)[i].GetDouble();
  }
};

}  // namespace

MaskRcnnOptions mask_rcnn_options(const rapidjson::Value& values) {
  MaskRcnnOptions o;
  const Config config{values};
  config.read("MODEL.RESNETS.DEPTH", o.resnet.depth);
  config.read("MODEL.RESNETS.STRIDE_IN_1X1", o.resnet.stride_in_1x1);
  config.read("MODEL.RESNETS.STEM_OUT_CHANNELS", o.resnet.stem_channels);
  config.read("MODEL.RESNETS.RES2_OUT_CHANNELS", o.resnet.res2_channels);
  config.read("MODEL.RESNETS.WIDTH_PER_GROUP", o.resnet.width_per_group);
  config.read("MODEL.BACKBONE.FREEZE_AT", o.resnet.freeze_at);
  config.read("MODEL.FPN.OUT_CHANNELS", o.fpn_channels);
  if (const auto* sizes = config.find("MODEL.ANCHOR_GENERATOR.SIZES")) {
    o.rpn.anchor_sizes.clear();
    for (const auto& level : sizes->GetArray()) {
      o.rpn.anchor_sizes.emplace_back();
      for (const auto& s : level.GetArray()) o.rpn.anchor_sizes.back().push_back(s.GetDouble());
    }
  }
  config.read("MODEL.RPN.IOU_THRESHOLDS", o.rpn.iou_thresholds);
  config.read("MODEL.RPN.BATCH_SIZE_PER_IMAGE", o.rpn.batch_size_per_image);
  config.read("MODEL.RPN.POSITIVE_FRACTION", o.rpn.positive_fraction);
  config.read("MODEL.RPN.BBOX_REG_WEIGHTS", o.rpn.bbox_reg_weights);
  config.read("MODEL.RPN.SMOOTH_L1_BETA", o.rpn.smooth_l1_beta);
  config.read("MODEL.RPN.NMS_THRESH", o.rpn.nms_thresh);
  config.read("MODEL.RPN.PRE_NMS_TOPK_TRAIN", o.rpn.pre_nms_topk_train);
  config.read("MODEL.RPN.PRE_NMS_TOPK_TEST", o.rpn.pre_nms_topk_test);
  config.read("MODEL.RPN.POST_NMS_TOPK_TRAIN", o.rpn.post_nms_topk_train);
  config.read("MODEL.RPN.POST_NMS_TOPK_TEST", o.rpn.post_nms_topk_test);
  config.read("MODEL.ROI_HEADS.NUM_CLASSES", o.roi_heads.num_classes);
  config.read("MODEL.ROI_HEADS.IOU_THRESHOLDS", o.roi_heads.iou_thresholds);
  config.read("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", o.roi_heads.batch_size_per_image);
  config.read("MODEL.ROI_HEADS.POSITIVE_FRACTION", o.roi_heads.positive_fraction);
  config.read("MODEL.ROI_HEADS.SCORE_THRESH_TEST", o.roi_heads.score_thresh_test);
  config.read("MODEL.ROI_HEADS.NMS_THRESH_TEST", o.roi_heads.nms_thresh_test);
  config.read("MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", o.roi_heads.proposal_append_gt);
  config.read("MODEL.ROI_BOX_HEAD.FC_DIM", o.roi_heads.box_fc_dim);
  config.read("MODEL.ROI_BOX_HEAD.NUM_FC", o.roi_heads.box_num_fc);
  config.read("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", o.roi_heads.box_pooler_resolution);
  config.read("MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", o.roi_heads.box_pooler_sampling_ratio);
  config.read("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", o.roi_heads.bbox_reg_weights);
  config.read("MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA", o.roi_heads.smooth_l1_beta);
  config.read("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", o.roi_heads.cls_agnostic_bbox_reg);
  config.read("MODEL.ROI_MASK_HEAD.CONV_DIM", o.roi_heads.mask_conv_dim);
  config.read("MODEL.ROI_MASK_HEAD.NUM_CONV", o.roi_heads.mask_num_conv);
  config.read("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", o.roi_heads.mask_pooler_resolution);
  config.read("TEST.DETECTIONS_PER_IMAGE", o.roi_heads.detections_per_image);
  return o;
}

StateDict formula_state(const ParityCase& c) {
  StateDict state;
  for (const auto& w : c.description()["weights"].GetArray()) state[w[0].GetString()] = formula(w, seed_of(c));
  return state;
}

void load_formula_weights(const ParityCase& c, Module& root) { root.load_state_dict(formula_state(c), c.name()); }

std::vector<FormulaTensor> formula_tensors(const ParityCase& c, const char* key, bool leaves) {
  std::vector<FormulaTensor> list;
  for (const auto& spec : c.params()[key].GetArray()) {
    Tensor t = formula(spec, seed_of(c));
    if (t.rank() == 4) t = permuted(t, to_nhwc);
    if (leaves) require_grad(t);
    list.push_back({spec[0].GetString(), t});
  }
  return list;
}

Tensor gray_batch(std::span<const Tensor> images, const rapidjson::Value& config) {
  int64_t height = 0, width = 0;
  for (const Tensor& t : images) {
    height = std::max(height, (t.dim(0) + 31) / 32 * 32);
    width = std::max(width, (t.dim(1) + 31) / 32 * 32);
  }
  const Tensor batch = Tensor::zeros({int64_t(images.size()), height, width, 3});
  for (size_t n = 0; n < images.size(); ++n) {
    for (int64_t i = 0; i < images[n].size(); ++i) {
      const int64_t y = i / images[n].dim(1), x = i % images[n].dim(1);
      float* pixel = batch.data<float>() + ((int64_t(n) * height + y) * width + x) * 3;
      for (unsigned c = 0; c < 3; ++c)
        pixel[c] = (float(images[n].data<uint8_t>()[i]) - config["MODEL.PIXEL_MEAN"][c].GetFloat()) /
                   config["MODEL.PIXEL_STD"][c].GetFloat();
    }
  }
  return batch;
}

void check_parameter_gradients(const ParityCase& c, Module& root, double rms_share) {
  std::map<std::string, Tensor> gradients;
  for (const NamedTensor& p : root.parameters())
    if (wants_grad(*p.tensor) && grad_of(*p.tensor)) gradients[p.name] = to_checkpoint(grad_of(*p.tensor), p.rule.layout);
  std::vector<double> norms;
  for (const auto& name : c.params()["grad_names"].GetArray()) {
    INFO(std::string(name.GetString()));
    REQUIRE(gradients.contains(name.GetString()));
    double squares = 0;
    for (const float g : gradients[name.GetString()].values<float>()) squares += double(g) * double(g);
    norms.push_back(std::sqrt(squares));
    if (c.has("gin/" + std::string(name.GetString())))
      c.check_key(std::string("gin/") + name.GetString(), gradients[name.GetString()], rms_share);
  }
  CHECK(gradients.size() == norms.size());
  c.check("grad_norm", Tensor::from<double>({int64_t(norms.size())}, norms));
}

std::vector<std::array<int64_t, 2>> image_sizes(const ParityCase& c, const char* key) {
  std::vector<std::array<int64_t, 2>> sizes;
  for (const auto& s : c.params()[key].GetArray()) sizes.push_back({s[0].GetInt64(), s[1].GetInt64()});
  return sizes;
}

std::vector<int64_t> EvenSampler::pick(Stage stage, int64_t image, std::span<const int64_t> candidates, int64_t count) {
  std::vector<int64_t> picked;
  for (int64_t j = 0; j < count; ++j) picked.push_back(candidates[size_t(j * int64_t(candidates.size()) / count)]);
  if (stage == Stage::anchors) {
    const char* kind = calls_[image]++ % 2 == 0 ? "pos" : "neg";
    const Tensor want = case_.input(fmt::format("sampled_{}.{}", kind, image));
    INFO("sampled anchors ", std::string(kind), " of image ", image);
    CHECK(std::vector<int64_t>(want.values<int64_t>().begin(), want.values<int64_t>().end()) == picked);
  }
  return picked;
}

void check_storage(const ParityCase& c, const std::vector<std::pair<std::string, double>>& got) {
  for (const auto& entry : c.params()["storage"].GetObject()) {
    const std::string name = entry.name.GetString();
    INFO("storage ", name);
    const auto found = std::find_if(got.begin(), got.end(), [&](const auto& g) { return g.first == name; });
    REQUIRE(found != got.end());
    CHECK(found->second == doctest::Approx(entry.value.GetDouble()).epsilon(1e-5));
  }
}

}  // namespace glia::tests
