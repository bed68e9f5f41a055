/* All kernels, in one unit so that the compiler sees through them. */

#include "networks.h"
#include "soft.h"
