/* cuelight: message passing for actors and services over shared memory.
 *
 * This header includes all the parts; each part's header is its manual. Start with cuelight/error.h: its opening comment
 * says what holds for every call (statuses, ownership, waiting, threads).
 */
#ifndef CUELIGHT_H
#define CUELIGHT_H

#include <cuelight/error.h>
#include <cuelight/pool.h>
#include <cuelight/serial.h>
#include <cuelight/channel.h>
#include <cuelight/actor.h>

#endif
