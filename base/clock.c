#include "clock.h"

cue_time cue_now(void)
{
    return (cue_time){ clock_ns() };
}
