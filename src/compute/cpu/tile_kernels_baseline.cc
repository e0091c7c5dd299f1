#define Eigen EigenBaseline
#define LEWIS_TILES_NAME baseline_tile_kernels
#include "compute/cpu/tile_kernels.inc"
