#pragma once
// unet_milesial of models/unet.h, by the names of milesial/Pytorch-UNet: inc, down1.., up1.., outc.
#include "models/unet.h"

namespace glia {

std::unique_ptr<Unet> make_milesial_unet(const UnetOptions& options);

}  // namespace glia
