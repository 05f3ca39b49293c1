/* What generated matchers work on. */
#ifndef MATCHING_H
#define MATCHING_H

#include <stdint.h>
#include <string.h>

enum { MOST_GROUPS = 8, MOST_COUNTERS = 128 };

struct match {
    const uint16_t *kinds;  /* of each character of the text */
    const uint32_t *text;   /* its code points */
    int end;                /* matches end here at most; nothing beyond is seen */
    int start, stop;        /* of the match */
    int marks[2 * MOST_GROUPS];  /* start and end of each group; below zero where it is not set */
    int counts[MOST_COUNTERS];   /* turns of repeated groups */
};

struct expression {
    int (*search)(struct match *match, int low);
    int values[3];  /* groups that may hold the value; zero for none */
};

#define IN(class, kind) ((class[(kind) >> 5] >> ((kind)&31)) & 1)

static int done(struct match *m, int p) {
    m->stop = p;
    return 1;
}

#endif
