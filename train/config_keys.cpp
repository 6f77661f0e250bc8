#include "train/config_keys.h"

namespace glia {
namespace {

constexpr double big = 1e9;

const AllowedValues any{};

void add_model(std::vector<ConfigKey>& keys) {
  using M = ModelConfig;
  constexpr auto s = &Config::model;
  keys.insert(
      keys.end(),
      {row("model.name", s, &M::name,
           one_of({"unet_original", "unet_keras", "unet_dsb", "unet_milesial", "unet_plus_plus", "mask_rcnn", "cellpose"}),
           "the network"),
       of_unet(row("model.base_channels", s, &M::base_channels, between(1, 4096),
                   "channels of the first level; each deeper one doubles")),
       of_unet(row("model.depth", s, &M::depth, between(1, 8), "number of poolings; image sides must be divisible by 2^depth")),
       of_mask_rcnn(row("model.num_classes", s, &M::num_classes, between(0, 1000),
                        "object classes; 0: as many as data.classes names; 1: all classes of the data are taken as one")),
       of_unet(row("model.head", s, &M::head, one_of({"direct", "keras"}),
                   "keras: a 3x3 convolution to 2 + ReLU before the last layer")),
       of_unet(row("model.upsample", s, &M::upsample, one_of({"transposed", "bilinear"}),
                   "the way up of unet_milesial and unet_plus_plus")),
       of_unet(row("model.dropout", s, &M::dropout, any, "dropout where the network has it")),
       of_unet(row("model.deep_supervision", s, &M::deep_supervision, any,
                   "unet_plus_plus: a head and a loss on each column of the first level, not the last alone")),
       of_unet(
           free(row("model.prune", s, &M::prune, between(0, 8),
                    "unet_plus_plus: prediction by the head of this column alone, without the deeper levels: faster; 0: the mean "
                    "of all heads"))),
       of_unet(row("model.target", s, &M::target, one_of({"binary", "border"}),
                   "binary: cell or not; border: background, interior, border between touching cells")),
       of_unet(row("model.border_width", s, &M::border_width, between(1, 100), "width of the contact border in pixels")),
       of_unet(free(row("model.seed_threshold", s, &M::seed_threshold, between(0, 1),
                        "target border: probability of interior above which pixels found an instance"))),
       of_unet(
           free(row("model.seed_size", s, &M::seed_size, between(0, big), "target border: seeds of fewer pixels are dropped"))),
       of_unet(
           free(row("model.grow", s, &M::grow, between(0, 100), "target border: pixels by which seeds grow over what is cell"))),
       of_unet(free(row("model.threshold", s, &M::threshold, between(0, 1), "probability above which a pixel is cell"))),
       of_unet(free(
           row("model.connectivity", s, &M::connectivity, between(4, 8), "neighbours that join pixels to one instance: 4 or 8"))),
       of_unet(free(row("model.min_size", s, &M::min_size, between(0, big), "instances of fewer pixels are dropped"))),
       of_unet(free(row("model.fill_holes", s, &M::fill_holes, any, "fill holes of instances"))),
       of_unet(free(row("model.tile", s, &M::tile, between(0, 65536),
                        "prediction by overlapping tiles of this size, N or [H, W]; 0: the image in one piece"))),
       of_unet(free(row("model.overlap", s, &M::overlap, between(0, 65536), "pixels that neighbouring tiles share")))});
}

void add_data(std::vector<ConfigKey>& keys) {
  using D = DataConfig;
  constexpr auto s = &Config::data;
  keys.insert(
      keys.end(),
      {of_unet(row("data.image_size", s, &D::image_size, between(0, 65536),
                   "size the network trains at, N or [H, W]; 0: the image's own")),
       of_unet(row("data.fit", s, &D::fit, one_of({"resize", "crop"}),
                   "resize: the whole image scaled to image_size; crop: a random window of it at full resolution")),
       of_unet(row("data.resize", s, &D::resize, one_of({"pil", "opencv", "keras"}), "whose bilinear resize to equal")),
       of_unet(row("data.channels", s, &D::channels, between(1, 16), "channels the network sees")),
       row("data.normalize", s, &D::normalize, one_of({"unit", "percentile", "standard", "none"}),
           "unit: divide by the type's maximum; percentile: 1st to 99.8th to 0..1; standard: mean 0, variance 1 (mask_rcnn: 0..1 "
           "times 255)"),
       row("data.split", s, &D::split, one_of({"seeded", "every_nth"}),
           "seeded: random by split_seed; every_nth: ids sorted as text, every 5th to validation"),
       row("data.val_fraction", s, &D::val_fraction, between(0, 1), "part of the images kept for validation; 0: none"),
       row("data.split_seed", s, &D::split_seed, between(0, 9e15), "seed of the split"),
       row("data.val", s, &D::val, any, "a validation data set, instead of a split"),
       of_mask_rcnn(row("data.classes", s, &D::classes, any,
                        "names of the classes, in the order of the network's outputs; []: those of the training data")),
       of_mask_rcnn(row("data.class_from", s, &D::class_from, one_of({"annotation", "name"}),
                        "annotation: an instance's class is the file's; name: the one of data.classes that its image's name "
                        "begins with (LIVECell)")),
       row("data.repeat", s, &D::repeat, between(1, 1e6), "times that each image is seen per epoch, each time augmented anew"),
       free(row("data.workers", s, &D::workers, between(0, 256), "loader threads; 0: load in the training thread")),
       free(row("data.prefetch", s, &D::prefetch, between(1, 1024), "batches that are made ahead")),
       free(row("data.cache", s, &D::cache, any, "keep decoded images in memory")),
       row("data.drop_last", s, &D::drop_last, any, "leave out the last batch of an epoch when it is incomplete")});
}

void add_augment(std::vector<ConfigKey>& keys) {
  using A = AugmentConfig;
  constexpr auto s = &Config::augment;
  keys.insert(keys.end(),
              {row("augment.hflip", s, &A::hflip, any, "flip left and right, half of the time"),
               row("augment.vflip", s, &A::vflip, any, "flip up and down, half of the time"),
               row("augment.transpose", s, &A::transpose, any,
                   "swap rows and columns, half of the time; with the flips, the square's 8 symmetries"),
               of_unet(row("augment.rotate", s, &A::rotate, between(0, 180), "rotation by up to this many degrees")),
               of_unet(row("augment.scale", s, &A::scale, between(0, 10), "magnification between 1 / (1 + s) and 1 + s")),
               row("augment.brightness", s, &A::brightness, between(0, 10),
                   "added: up to this part of the value range; mask_rcnn: factor between 1 - b and 1 + b"),
               row("augment.contrast", s, &A::contrast, between(0, 10), "factor between 1 - c and 1 + c, about the image's mean"),
               of_unet(row("augment.noise", s, &A::noise, between(0, 1),
                           "largest standard deviation of added noise, as a part of the value range"))});
}

void add_solver(std::vector<ConfigKey>& keys) {
  using S = SolverConfig;
  constexpr auto s = &Config::solver;
  keys.insert(
      keys.end(),
      {row("solver.optimizer", s, &S::optimizer, one_of({"sgd", "keras_sgd", "adam", "keras_adam", "adamw", "radam", "rmsprop"}),
           "adam: PyTorch's epsilon; keras_adam: Keras' (epsilon outside the bias correction)"),
       row("solver.lr", s, &S::lr, between(0, 1e6), "learning rate"),
       row("solver.momentum", s, &S::momentum, between(0, 1), "of sgd and rmsprop"),
       row("solver.nesterov", s, &S::nesterov, any, "sgd with Nesterov's momentum"),
       row("solver.beta1", s, &S::beta1, between(0, 1), "of the Adams"),
       row("solver.beta2", s, &S::beta2, between(0, 1), "of the Adams"),
       row("solver.epsilon", s, &S::epsilon, between(0, 1),
           "of the Adams and rmsprop; 0: the optimizer's own (1e-8, Keras 1e-7)"),
       row("solver.alpha", s, &S::alpha, between(0, 1), "rmsprop's decay of the squared gradient"),
       row("solver.weight_decay", s, &S::weight_decay, between(0, 10), "L2 penalty; adamw: decoupled"),
       row("solver.weight_decay_norm", s, &S::weight_decay_norm, between(-1, 10),
           "the same of the scales and shifts of norm layers; -1: as the others"),
       row("solver.weight_decay_bias", s, &S::weight_decay_bias, between(-1, 10),
           "the same of parameters named bias; -1: as the others"),
       row("solver.bias_lr_factor", s, &S::bias_lr_factor, between(0, 1000),
           "learning rate of parameters named bias, as a factor on lr"),
       row("solver.batch_size", s, &S::batch_size, between(1, 65536), "images per step"),
       row("solver.accumulate", s, &S::accumulate, between(1, 65536), "batches whose gradients one step averages"),
       free(row("solver.max_iterations", s, &S::max_iterations, between(0, big), "steps of training; 0: no limit")),
       free(row("solver.max_epochs", s, &S::max_epochs, between(0, big),
                "epochs of training, whichever comes first; 0: no limit")),
       row("solver.schedule", s, &S::schedule,
           one_of({"constant", "poly", "step", "multistep", "exponential", "cosine", "cosine_restarts", "one_cycle", "cellpose",
                   "warmup_cosine", "warmup_multistep", "plateau"}),
           "how lr changes"),
       row("solver.warmup_iterations", s, &S::warmup_iterations, between(0, big), "steps of linear warm-up"),
       row("solver.warmup_factor", s, &S::warmup_factor, between(0, 1), "part of lr at which the warm-up starts"),
       row("solver.milestones", s, &S::milestones, between(1, big), "multistep: steps at which lr is multiplied by gamma"),
       row("solver.gamma", s, &S::gamma, between(0, 1), "factor of step, multistep, exponential and plateau"),
       row("solver.step_size", s, &S::step_size, between(0, big), "schedule step: steps between falls"),
       row("solver.period", s, &S::period, between(0, big),
           "cosine_restarts: steps of a cycle; cellpose: steps that it counts as one, 0: an epoch"),
       row("solver.power", s, &S::power, between(0, 100), "exponent of poly"),
       row("solver.final_lr", s, &S::final_lr, between(0, 1e6), "where the cosines end"),
       row("solver.plateau_metric", s, &S::plateau_metric, any, "plateau: validation metric that must improve"),
       row("solver.plateau_patience", s, &S::plateau_patience, between(0, big),
           "plateau: evaluations without gain before lr falls"),
       row("solver.clip_norm", s, &S::clip_norm, between(0, 1e12), "largest norm of the gradient; 0: not clipped"),
       row("solver.clip_norm_each", s, &S::clip_norm_each, any, "clip_norm is of each parameter's gradient, not of all together"),
       row("solver.clip_value", s, &S::clip_value, between(0, 1e12), "largest element of the gradient; 0: not clipped"),
       row("solver.ema", s, &S::ema, between(0, 1),
           "decay of the moving average of the weights, which is then evaluated; 0: none")});
}

void add_loss(std::vector<ConfigKey>& keys) {
  using L = LossConfig;
  constexpr auto s = &Config::loss;
  keys.insert(
      keys.end(),
      {row("loss.terms", s, &L::terms, between(0, 1e6),
           "terms and weights: {bce = 1.0, dice = 0.5}. Target binary: also focal, tversky, lovasz; border: cross_entropy; "
           "mask_rcnn: "
           "loss_rpn_cls, loss_rpn_loc, loss_cls, loss_box_reg, loss_mask, loss_maskiou (cascade: loss_cls_stage0, ...), each 1 "
           "unless given. {}: bce, cross_entropy or all of the system's"),
       of_unet(row("loss.class_weights", s, &L::class_weights, between(0, 1e6), "cross_entropy: one per class; []: all 1")),
       of_unet(row("loss.positive_weight", s, &L::positive_weight, between(0, 1e6), "bce: weight of cell pixels")),
       of_unet(row("loss.focal_gamma", s, &L::focal_gamma, between(0, 100), "focal: exponent")),
       of_unet(row("loss.focal_alpha", s, &L::focal_alpha, between(0, 1), "focal: weight of cell pixels")),
       of_unet(row("loss.tversky_alpha", s, &L::tversky_alpha, between(0, 100), "tversky: weight of false positives")),
       of_unet(row("loss.tversky_beta", s, &L::tversky_beta, between(0, 100), "tversky: weight of false negatives")),
       of_unet(row("loss.smooth", s, &L::smooth, between(0, 1e6), "dice and tversky: added above and below")),
       of_unet(row("loss.per", s, &L::per, one_of({"batch", "sample"}),
                   "dice and tversky: over all pixels of the batch, or the mean over its images")),
       row("loss.weights", s, &L::weights, between(0, 1e6),
           "weights of pixels by shape, for bce, cross_entropy and loss_mask: 1 + height times each of {border = 10.0, contour = "
           "2.0, "
           "curvature = 2.0}; {}: none"),
       row("loss.weight_sigma", s, &L::weight_sigma, between(0.1, 1000), "how far those terms reach, in pixels"),
       row("loss.weight_radius", s, &L::weight_radius, between(1, 100),
           "curvature: radius in pixels of the disc that measures it"),
       row("loss.weight_balance", s, &L::weight_balance, any,
           "pixels of cells and background are weighted by the inverse of their frequency, the rarer 1, instead of 1"),
       row("loss.weight_normalize", s, &L::weight_normalize, any,
           "losses with weights are divided by the sum of the weights, not by the number of pixels")});
}

void add_eval(std::vector<ConfigKey>& keys) {
  using E = EvalConfig;
  constexpr auto s = &Config::eval;
  keys.insert(
      keys.end(),
      {free(row("eval.every", s, &E::every, between(1, big), "steps between evaluations, or \"epoch\"")),
       free(row("eval.metric", s, &E::metric, any, "the metric that counts: map_iou, map_iou_compat, dice, f1_at_50, bce, loss")),
       of_mask_rcnn(
           free(row("eval.score_threshold", s, &E::score_threshold, between(0, 1), "instances with a lower score are dropped"))),
       of_mask_rcnn(free(
           row("eval.class_thresholds", s, &E::class_thresholds, between(0, 1), "score threshold per class; []: the one above"))),
       of_mask_rcnn(free(row("eval.min_sizes", s, &E::min_sizes, between(0, big),
                             "instances of fewer pixels are dropped: one number per class, or one for all"))),
       of_mask_rcnn(free(row("eval.class_of_image", s, &E::class_of_image, any,
                             "thresholds and sizes are those of the image's most frequent class, not of each instance's"))),
       of_mask_rcnn(
           free(row("eval.remove_overlaps", s, &E::remove_overlaps, any,
                    "pixels belong to the instance with the highest score; false: all as found, for COCO's AP and --tune"))),
       of_mask_rcnn(free(row("eval.flip", s, &E::flip, any, "also look at the mirrored image, and join what is found"))),
       of_mask_rcnn(free(
           row("eval.losses", s, &E::losses, any, "also the losses of the validation images, at the price of a second pass"))),
       free(row("eval.batch_size", s, &E::batch_size, between(1, 65536), "images per evaluated batch")),
       free(row("eval.max_images", s, &E::max_images, between(0, big), "evaluate the first N validation images; 0: all")),
       free(row("eval.pictures", s, &E::pictures, between(0, 1000), "validation images drawn at the end"))});
}

void add_bookkeeping(std::vector<ConfigKey>& keys) {
  using C = CheckpointConfig;
  using E = EarlyStoppingConfig;
  using I = InitConfig;
  using R = RunConfig;
  constexpr auto c = &Config::checkpoint;
  constexpr auto e = &Config::early_stopping;
  constexpr auto i = &Config::init;
  constexpr auto r = &Config::run;
  keys.insert(
      keys.end(),
      {free(row("checkpoint.save_best", c, &C::save_best, any,
                "metric whose best is kept as best.safetensors; auto: eval.metric; none")),
       free(row("checkpoint.keep", c, &C::keep, between(1, 1e6), "newest step-NNNNNN files that are kept")),
       free(row("checkpoint.keep_best", c, &C::keep_best, between(1, 1000),
                "how many of the best by save_best are kept: from 2 on their step-NNNNNN files too, besides the newest")),
       free(row("checkpoint.every", c, &C::every, between(1, big), "steps between checkpoints, or \"epoch\"")),
       free(row(
           "checkpoint.on_error", c, &C::on_error, one_of({"stop", "warn"}),
           "where a checkpoint cannot be written: stop (exit code 4), or warn and go on; the last one of a run must be written")),
       free(row("early_stopping.metric", e, &E::metric, any, "validation metric that must improve")),
       free(row("early_stopping.patience", e, &E::patience, between(0, big),
                "evaluations in a row without gain; 0: never stop early")),
       free(row("early_stopping.min_delta", e, &E::min_delta, between(0, 1e9), "smaller gains don't count")),
       free(row("early_stopping.start_from", e, &E::start_from, between(0, big), "evaluations that are not looked at first")),
       row("init.weights", i, &I::weights, any, "checkpoint to start from"),
       row("init.ignore", i, &I::ignore, any, "names of tensors that are not taken from it; * matches any text"),
       row("init.lr_scale", i, &I::lr_scale, between(0, 1e6), "learning rate factors by name: {\"encoder*\" = 0.1}; 0: frozen"),
       row("run.seed", r, &R::seed, between(0, 9e15), "of initial weights, data order, augmentation, dropout"),
       free(row("run.deterministic", r, &R::deterministic, any,
                "a GPU's kernels by fixed rules, not by what was measured fastest there: the same bits without its notes of that "
                "too")),
       free(row("run.device", r, &R::device, any, "auto, cpu, cuda, cuda:N or emulated")),
       row("run.kernels", r, &R::kernels, one_of({"auto", "hand", "vendor", "reference"}), "which implementations run"),
       free(row("run.threads", r, &R::threads, between(0, 4096), "threads; 0: one per core. Results don't depend on it")),
       row("run.precision", r, &R::precision, one_of({"auto", "exact", "fp32", "tf32", "bf16"}),
           "auto: fp32 on CPU, tf32 on a GPU"),
       free(row("run.check_precision", r, &R::check_precision, any,
                "on a device in tf32 or bf16: compare the first batch's losses with fp32's before training")),
       free(
           row("run.pack_weights", r, &R::pack_weights, any,
               "on the CPU: keep what inference makes of filters for the next image; faster, for up to four times their memory")),
       free(row("run.memory_limit", r, &R::memory_limit, between(0, 1e6), "GB that tensors may take; 0: no limit")),
       free(row("run.recompute", r, &R::recompute, any,
                "training computes blocks of layers once more instead of keeping their results: less memory, same numbers. "
                "unet_keras, backbones of Mask R-CNN")),
       free(row("run.log_every", r, &R::log_every, between(1, big),
                "steps between progress lines where stdout is no terminal, and between looks at a device's losses")),
       free(row("run.tensorboard", r, &R::tensorboard, any, "write TensorBoard events")),
       free(row("run.on_nan", r, &R::on_nan, any,
                "a step whose loss or gradient is not finite: stop (exit code 5); skip:N leaves it out, up to N in a row; "
                "rollback:N goes on with the newest checkpoint's weights, up to N times in all"))});
}

}  // namespace

const std::vector<ConfigKey>& config_keys() {
  static const std::vector<ConfigKey> keys = [] {
    std::vector<ConfigKey> k;
    add_model(k);
    add_mask_rcnn_keys(k);
    add_cellpose_keys(k);
    add_data(k);
    add_augment(k);
    add_solver(k);
    add_loss(k);
    add_eval(k);
    add_bookkeeping(k);
    return k;
  }();
  return keys;
}

bool applies(const ConfigKey& key, const Config& config) { return key.system.empty() || key.system == system_of(config); }

const ConfigKey* find_config_key(std::string_view name) {
  for (const ConfigKey& key : config_keys())
    if (key.name == name) return &key;
  return nullptr;
}

}  // namespace glia
