/* All kernels, in one unit so that the compiler sees through them. */

#include "chosen.h"
#include "peak.h"
#include "soft.h"

int vector_width(void) { return VL; }
