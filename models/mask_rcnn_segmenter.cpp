#include "models/mask_rcnn_segmenter.h"

#include <algorithm>
#include <cmath>

#include "autograd/operators.h"
#include "data/detection_augment.h"
#include "data/image_ops.h"
#include "data/mask_patches.h"
#include "data/rle.h"
#include "kernels/nms.h"
#include "models/backbone_onnx.h"
#include "models/mask_rcnn.h"
#include "models/unet_input.h"
#include "tensor/error.h"

namespace glia {
namespace {

using Size = std::array<int64_t, 2>;  // height, width

constexpr int64_t stride = 32;  // sides of the network's input are multiples of it

int64_t padded(int64_t side) { return (side + stride - 1) / stride * stride; }

std::vector<Size> sizes_of(const Tensor& sizes) {
  const Tensor host = sizes.to(Device{});
  std::vector<Size> result;
  for (int64_t n = 0; n < host.dim(0); ++n) result.push_back({host.data<int64_t>()[2 * n], host.data<int64_t>()[2 * n + 1]});
  return result;
}

// What was found in the mirrored image, in the image.
Detections mirror(const Detections& found, int64_t width) {
  Detections result = found;
  result.boxes = found.boxes.clone();
  float* b = result.boxes.data<float>();
  for (int64_t i = 0; i < result.boxes.dim(0); ++i, b += 4) {
    const float left = b[0];
    b[0] = static_cast<float>(width) - b[2];
    b[2] = static_cast<float>(width) - left;
  }
  result.mask_probs = found.mask_probs.clone();
  float* row = result.mask_probs.data<float>();
  const int64_t side = result.mask_probs.dim(2);
  for (int64_t i = 0; i < result.mask_probs.size() / std::max<int64_t>(1, side); ++i, row += side) std::reverse(row, row + side);
  return result;
}

Detections rows_of(const Detections& found, std::span<const int64_t> rows) {
  const auto taken = [&](const Tensor& a) {
    if (!a) return Tensor();
    std::vector<int64_t> dims(a.shape().begin(), a.shape().end());
    dims[0] = static_cast<int64_t>(rows.size());
    Tensor y(Shape(std::span<const int64_t>(dims)), a.dtype());
    const size_t bytes = rows.empty() ? 0 : y.bytes() / rows.size();
    for (size_t i = 0; i < rows.size(); ++i)
      copy_bytes(y.raw() + i * bytes, a.raw() + static_cast<size_t>(rows[i]) * bytes, bytes);
    return y;
  };
  return {taken(found.boxes), taken(found.scores), taken(found.classes), taken(found.mask_probs), taken(found.mask_scores)};
}

// All parts, without those of a class that overlap a better one. A limit below 0: none.
Detections join(std::span<const Detections> parts, double nms_threshold, int64_t limit) {
  const auto joined = [&](Tensor Detections::*field) {
    std::vector<Tensor> tensors;
    for (const Detections& part : parts) tensors.push_back(part.*field);
    return tensors[0] ? concat(tensors, 0) : Tensor();
  };
  const Detections all{joined(&Detections::boxes), joined(&Detections::scores), joined(&Detections::classes),
                       joined(&Detections::mask_probs), joined(&Detections::mask_scores)};
  const auto [keep, count] =
      apply(Nms{.threshold = nms_threshold, .max_keep = limit < 0 ? -1 : limit}, all.boxes, all.scores, all.classes);
  return rows_of(all, {keep.data<int64_t>(), static_cast<size_t>(count.data<int64_t>()[0])});
}

// Where along an axis tile i begins and ends to be the one that sees most: half-way through what it shares with its neighbours.
std::array<double, 2> share_of_tile(const std::vector<int64_t>& starts, size_t i, int64_t tile) {
  const auto border = [&](size_t k) { return double(starts[k - 1] + tile + starts[k]) / 2; };  // of tiles k - 1 and k
  return {i == 0 ? -HUGE_VAL : border(i), i + 1 == starts.size() ? HUGE_VAL : border(i + 1)};
}

// Those of a tile at (top, left) whose box's centre is in its share of the rows and columns of the image; boxes become the image's.
Detections of_tile(const Detections& found, int64_t top, int64_t left, std::array<double, 2> rows,
                   std::array<double, 2> columns) {
  std::vector<int64_t> own;
  for (int64_t i = 0; i < found.boxes.dim(0); ++i) {
    const float* b = found.boxes.data<float>() + 4 * i;
    const double x = double(left) + (double(b[0]) + double(b[2])) / 2, y = double(top) + (double(b[1]) + double(b[3])) / 2;
    if (x >= columns[0] && x < columns[1] && y >= rows[0] && y < rows[1]) own.push_back(i);
  }
  Detections result = rows_of(found, own);
  float* b = result.boxes.data<float>();
  for (int64_t i = 0; i < result.boxes.size(); ++i) b[i] += static_cast<float>(i % 2 ? top : left);
  return result;
}

class MaskRcnnSegmenter final : public Segmenter {
 public:
  explicit MaskRcnnSegmenter(const MaskRcnnSegmenterOptions& options) : options_(options), net_(options.network) {}

  Module& module() override { return net_; }
  bool takes_instances() const override { return true; }
  OnnxExport onnx() override {
    return {"the backbone (p2 to p6, without the heads)", onnx_of_backbone(options_.network, net_.state_dict())};
  }

  // Gray stays one channel, colour three: 8 bits as they are, else float32 of 0..255.
  Example fit(const Example& example) const override {
    Example fitted = example;
    const int64_t channels = example.image.rank() == 3 && example.image.dim(2) > 2 ? 3 : 1;
    fitted.image = to_channels(example.image, channels);
    const bool scales = options_.normalization == Normalization::unit || options_.normalization == Normalization::percentile;
    if (options_.normalization == Normalization::none ||
        (options_.normalization == Normalization::unit && is_bytes(fitted.image)))
      return fitted;
    fitted.image = normalized(fitted.image, options_.normalization, value_range(example.image.dtype()));
    if (scales)
      for (float& v : fitted.image.values<float>()) v *= 255;
    return fitted;
  }

  std::vector<Tensor> collate(std::span<const Example> examples) const override {
    std::vector<Tensor> images;
    std::vector<Instance> instances;
    std::vector<Rle> masks;
    const auto count = static_cast<int64_t>(examples.size());
    Tensor sizes({count, 2}, DType::int64), first = Tensor::zeros({count + 1}, DType::int64);
    for (int64_t n = 0; n < count; ++n) {
      const Example& example = examples[static_cast<size_t>(n)];
      images.push_back(example.image);
      instances.insert(instances.end(), example.instances.begin(), example.instances.end());
      sizes.data<int64_t>()[2 * n] = example.image.dim(0);
      sizes.data<int64_t>()[2 * n + 1] = example.image.dim(1);
      first.data<int64_t>()[n + 1] = static_cast<int64_t>(instances.size());
    }
    Tensor classes({static_cast<int64_t>(instances.size())}, DType::int64);
    for (size_t i = 0; i < instances.size(); ++i) {
      const int64_t known = options_.network.roi_heads.num_classes;
      if (instances[i].category < 0 || instances[i].category >= known)
        throw DataError("an instance of class {}, but the network has {} (model.num_classes)", instances[i].category, known);
      classes.data<int64_t>()[i] = instances[i].category;
      masks.push_back(instances[i].mask);
    }
    const MaskPatches patches = to_patches(masks);
    std::vector<Tensor> batch{canvas(images), sizes, first, corner_boxes(instances), classes, patches.bits, patches.windows};
    if (options_.pixel_weights.any()) batch.push_back(weight_maps(examples, batch[mask_rcnn_batch::images]));
    return batch;
  }

  // The heads' losses are of sampled proposals, and which these are hangs on the order of scores that may be almost equal.
  std::vector<std::string> stable_losses() const override { return {"loss_rpn_cls", "loss_rpn_loc"}; }
  NamedLosses losses(std::span<const Tensor> batch) override {
    namespace b = mask_rcnn_batch;
    GroundTruth truth;
    const Tensor first = batch[b::first].to(Device{});
    truth.first.assign(first.data<int64_t>(), first.data<int64_t>() + first.size());
    truth.boxes = at_network(batch[b::boxes]);
    truth.classes = at_network(batch[b::classes]);
    truth.masks = {at_network(batch[b::mask_bits]), at_network(batch[b::mask_windows])};
    if (options_.pixel_weights.any()) truth.pixel_weights = at_network(batch[b::pixel_weights]);
    return net_.losses(at_network(batch[b::images]), sizes_of(batch[b::sizes]), truth);
  }

  void infer(std::span<const Tensor> batch) override {
    const std::vector<Size> sizes = sizes_of(batch[mask_rcnn_batch::sizes]);
    const std::vector<Detections> found = net_.detect(at_network(batch[mask_rcnn_batch::images]), sizes);
    for (size_t n = 0; n < found.size(); ++n) finish(found[n], sizes[n], sizes[n]);
  }

  NamedValues validate(const Example& example, Prediction& prediction) override {
    prediction = predict(example.image);
    if (!options_.validation_losses) return {};
    Example fitted = fit(example);
    augment_detection(fitted.image, fitted.instances,
                      {.short_edge = {options_.min_size_test}, .max_size = options_.max_size_test}, 0, 0, 0);
    NamedValues values{{"loss", 0.0}};
    for (const auto& [name, loss] : losses(collate({&fitted, 1}))) {
      values.emplace_back(name, loss.item());
      values[0].second += loss_weight(name) * loss.item();
    }
    return values;
  }

  std::vector<std::string> metric_names() const override {
    if (!options_.validation_losses) return {};
    std::vector<std::string> names{"loss", "loss_rpn_cls", "loss_rpn_loc", "loss_mask"};
    if (options_.network.roi_heads.mask_scoring) names.emplace_back("loss_maskiou");
    const size_t stages = options_.network.roi_heads.cascade_ious.size();
    for (const std::string name : {"loss_cls", "loss_box_reg"}) {
      if (stages == 0) names.push_back(name);
      for (size_t i = 0; i < stages; ++i) names.push_back(name + "_stage" + std::to_string(i));
    }
    return names;
  }

  Prediction predict(const Tensor& image) override { return predict_batch({&image, 1})[0]; }

  // Neighbours of one size go through the network together. What is found in an image does not
  // depend on the others but for rounding: how convolutions are computed may depend on the number of images.
  std::vector<Prediction> predict_batch(std::span<const Tensor> images) override {
    std::vector<Tensor> inputs;
    for (const Tensor& image : images) inputs.push_back(resized(image));
    std::vector<Prediction> predictions;
    for (size_t begin = 0, end = 0; begin < inputs.size(); begin = end) {
      if (exceeds_tile(inputs[begin])) {
        const Size size{inputs[begin].dim(0), inputs[begin].dim(1)};
        predictions.push_back(finish(detect_in_tiles(inputs[begin]), size, {images[begin].dim(0), images[begin].dim(1)}));
        end = begin + 1;
        continue;
      }
      while (end < inputs.size() && inputs[end].dim(0) == inputs[begin].dim(0) && inputs[end].dim(1) == inputs[begin].dim(1))
        ++end;
      const Size size{inputs[begin].dim(0), inputs[begin].dim(1)};
      const std::vector<Detections> found = detect(std::span(inputs).subspan(begin, end - begin), size);
      for (size_t i = begin; i < end; ++i)
        predictions.push_back(finish(found[i - begin], size, {images[i].dim(0), images[i].dim(1)}));
    }
    return predictions;
  }

 private:
  static bool is_bytes(const Tensor& image) { return image.dtype() == DType::uint8; }

  Tensor at_network(const Tensor& t) { return t.to(net_.device()); }

  double loss_weight(const std::string& name) const {
    for (const auto& [known, weight] : options_.loss_weights)
      if (known == name) return weight;
    return 1;
  }

  Tensor resized(const Tensor& image) const {
    Example example;
    example.image = image;
    const Tensor x = fit(example).image;
    const auto [height, width] = resize_shortest_edge(x.dim(0), x.dim(1), options_.min_size_test, options_.max_size_test);
    return height == x.dim(0) && width == x.dim(1) ? x : resize_detection_image(x, height, width);
  }

  // Weights of the pixels of each image, padded as the images are.
  Tensor weight_maps(std::span<const Example> examples, const Tensor& images) const {
    PixelWeights options = options_.pixel_weights;
    options.normalize = false;
    const Tensor maps = Tensor::full({images.dim(0), images.dim(1), images.dim(2), 1}, 1);
    for (size_t n = 0; n < examples.size(); ++n) {
      const int64_t height = examples[n].image.dim(0), width = examples[n].image.dim(1);
      const Tensor map = pixel_weights(labels_of_instances(examples[n].instances, height, width), options);
      for (int64_t y = 0; y < height; ++y)
        std::copy_n(map.data<float>() + y * width, width,
                    maps.data<float>() + (static_cast<int64_t>(n) * maps.dim(1) + y) * maps.dim(2));
    }
    return maps;
  }

  // Images (H, W, 1 or 3), uint8 or float32, normalised into one batch.
  Tensor canvas(std::span<const Tensor> images) const {
    int64_t height = 0, width = 0;
    for (const Tensor& image : images) {
      height = std::max(height, padded(image.dim(0)));
      width = std::max(width, padded(image.dim(1)));
    }
    const Tensor batch = Tensor::zeros({static_cast<int64_t>(images.size()), height, width, 3});
    for (size_t n = 0; n < images.size(); ++n) {
      const Tensor image = images[n].cast(DType::float32);
      const int64_t channels = image.dim(2);
      for (int64_t y = 0; y < image.dim(0); ++y) {
        const float* from = image.data<float>() + y * image.dim(1) * channels;
        float* to = batch.data<float>() + ((static_cast<int64_t>(n) * height + y) * width) * 3;
        for (int64_t x = 0; x < image.dim(1); ++x, from += channels, to += 3) {
          for (size_t c = 0; c < 3; ++c) {
            const float v = from[channels == 1 ? 0 : options_.bgr ? 2 - c : c];
            to[c] = (v - static_cast<float>(options_.pixel_mean[c])) / static_cast<float>(options_.pixel_std[c]);
          }
        }
      }
    }
    return batch;
  }

  std::vector<Detections> detect(std::span<const Tensor> inputs, Size size) {
    const std::vector<Size> sizes(inputs.size(), size);
    std::vector<Detections> found = net_.detect(at_network(canvas(inputs)), sizes);
    if (!options_.flip) return found;
    std::vector<Tensor> mirrored;
    for (const Tensor& input : inputs) mirrored.push_back(flip_x(input));
    const std::vector<Detections> others = net_.detect(at_network(canvas(mirrored)), sizes);
    const RoiHeadsOptions& heads = options_.network.roi_heads;
    for (size_t n = 0; n < found.size(); ++n)
      found[n] = join(std::vector{found[n], mirror(others[n], size[1])}, heads.nms_thresh_test, heads.detections_per_image);
    return found;
  }

  bool exceeds_tile(const Tensor& input) const {
    return options_.tile[0] > 0 && (input.dim(0) > options_.tile[0] || input.dim(1) > options_.tile[1]);
  }

  // Each tile's own detections, at most roi_heads.detections_per_image of a tile; a cell across a border that both tiles took for
  // theirs, as they see its centre in different places, is joined by a suppression per class.
  Detections detect_in_tiles(const Tensor& input) {
    const Size size{std::min(options_.tile[0], input.dim(0)), std::min(options_.tile[1], input.dim(1))};
    const std::vector<int64_t> tops = tile_starts(input.dim(0), size[0], options_.overlap);
    const std::vector<int64_t> lefts = tile_starts(input.dim(1), size[1], options_.overlap);
    std::vector<Detections> parts;
    for (size_t i = 0; i < tops.size(); ++i) {
      for (size_t j = 0; j < lefts.size(); ++j) {
        const Tensor tile = glia::crop(input, tops[i], lefts[j], size[0], size[1]);
        parts.push_back(of_tile(detect({&tile, 1}, size)[0], tops[i], lefts[j], share_of_tile(tops, i, size[0]),
                                share_of_tile(lefts, j, size[1])));
      }
    }
    return join(parts, options_.network.roi_heads.nms_thresh_test, -1);
  }

  // Boxes and masks at the image's size (detectron2's detector_postprocess), selected.
  Prediction finish(const Detections& found, Size size, Size image) const {
    const Detections d = rescaled(found, size, image);
    std::vector<Rle> masks = paste_masks(d.mask_probs, d.boxes, image[0], image[1], 0.5);
    const Tensor& scores = d.mask_scores ? d.mask_scores : d.scores;  // instances are masks
    std::vector<Instance> instances(masks.size());
    for (size_t i = 0; i < instances.size(); ++i) {
      const float* b = d.boxes.data<float>() + 4 * i;
      instances[i].category = static_cast<int>(d.classes.data<int64_t>()[i]);
      instances[i].score = double(scores.data<float>()[i]);
      instances[i].box = {b[0], b[1], double(b[2]) - double(b[0]), double(b[3]) - double(b[1])};
      instances[i].mask = std::move(masks[i]);
    }
    Prediction prediction;
    prediction.instances = select_instances(instances, options_.selection);
    return prediction;
  }

  MaskRcnnSegmenterOptions options_;
  MaskRcnn net_;
};

}  // namespace

std::unique_ptr<Segmenter> make_mask_rcnn_segmenter(const MaskRcnnSegmenterOptions& options) {
  options.network.validate();
  GLIA_CHECK(options.tile[0] == 0 || options.overlap < std::min(options.tile[0], options.tile[1]),
             "Mask R-CNN: tiles of {} x {} that share {} pixels", options.tile[0], options.tile[1], options.overlap);
  if (!options.network.roi_heads.mask_on) throw UsageError("Mask R-CNN: cells want masks, but roi_heads.mask_on is false");
  return std::make_unique<MaskRcnnSegmenter>(options);
}

}  // namespace glia
