#ifdef __x86_64__
#define Eigen EigenAvx512
#define LEWIS_TILES_NAME avx512_tile_kernels
#include "compute/cpu/tile_kernels.inc"
#endif
