#pragma once
// The CSV files of Kaggle's Sartorius competition. train.csv: one row per instance with the columns id, annotation, width, height,
// cell_type (and others, which are passed over); annotation holds row-major pairs "start length", counted from 1. submission.csv:
// columns id, predicted; an image without cells has one row with nothing predicted.
#include <filesystem>

#include "data/faults.h"
#include "data/instance.h"

namespace glia {

// Samples and categories in the order of their first appearance; without a column cell_type the only category is "cell". An image
// whose only row has no annotation has no instances. Sample::file stays empty: data/dataset.h finds it.
// DataError: no such CSV at all (no header, a missing column). Through `faults`, each with FILE:LINE and the image, go
//   stop: a damaged row; an id that is empty or leads out of the folder; sizes that are no numbers or differ within an image; run
//         lengths that are odd, unsorted, overlapping, from 0 or beyond the image; most masks whole only in column-major order;
//         too many instances
//   drop: a row without run lengths among others of its image
//   warn: the same mask twice in one image
Dataset read_sartorius(const std::filesystem::path& path, Faults& faults);

// Predictions for the images of `truth`: its samples and categories in its order, with the file's masks. A column cell_type gives
// the category (else the first), a column score the score (else 1). stop, besides the above: an image or category that `truth`
// does not have.
Dataset read_submission(const std::filesystem::path& path, const Dataset& truth, Faults& faults);

// All instances but crowds. Whole or not at all.
void write_sartorius(const std::filesystem::path& path, const Dataset& dataset);

// Throws DataError where instances of an image overlap, which Kaggle refuses. The text is decoded again and compared before the
// file is kept.
void write_submission(const std::filesystem::path& path, const Dataset& predictions);

}  // namespace glia
