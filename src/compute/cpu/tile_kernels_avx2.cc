#ifdef __x86_64__
#define Eigen EigenAvx2
#define LEWIS_TILES_NAME avx2_tile_kernels
#include "compute/cpu/tile_kernels.inc"
#endif
