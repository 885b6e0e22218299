/* What the actors of tests/cast/role_actor.c understand. */
#ifndef TESTS_CAST_ACTOR_KINDS_H
#define TESTS_CAST_ACTOR_KINDS_H

enum { ACTOR_ECHO = 1, ACTOR_LAST, ACTOR_FAIL, ACTOR_EXIT, ACTOR_DIE, ACTOR_HANG, ACTOR_NEXT };

#endif
