/* Certificates for tls+tcp lanes, for the suites that need some: one authority, a server and a client (tests/tls/make). */
#ifndef TESTS_CERTIFICATES_H
#define TESTS_CERTIFICATES_H

#include "tests/harness.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>

static inline bool has_tls(void)
{
    const char *engine = nng_tls_engine_name();
    return engine && *engine && strcmp(engine, "none") != 0;
}

/* Skips the test where there is no openssl. */
static inline void make_certificates(const char *folder)
{
    char command[4 * TEST_PATH + 60];
    if (system("openssl version >/dev/null 2>&1") != 0)
        cr_skip_test("openssl is not installed: no certificates");
    snprintf(command, sizeof command, "%s %s", TLS_MAKE, folder);
    cr_assert(eq(int, system(command), 0), "see %s/make.log", folder);
}

/* Skips it also where NNG has no TLS. */
static inline void need_tls(const char *folder)
{
    if (!has_tls())
        cr_skip_test("this NNG was built without TLS");
    make_certificates(folder);
}

#endif
