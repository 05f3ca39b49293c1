/* Whether a candidate obeys the arithmetic of its format: the checks of services/detector/domain/pii/checks.py in C.
 *
 * Each check answers for any value exactly what the Python function of its name answers: reasons and sources of the
 * rules stand there, the tables come from there (tables.py). Values are code points; every check is linear in their
 * number, allocates nothing, and reads nothing beyond them.
 */
#ifndef PII_CORE_CHECKS_H
#define PII_CORE_CHECKS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { CHECK_NO = 0, CHECK_UNKNOWN = 1, CHECK_YES = 2 }; /* False, None, True */

typedef int (*check_function)(const uint32_t *value, int length);

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof(*(array))))

/* --- characters ----------------------------------------------------------------------------------------------- */

static inline int is_digit(uint32_t character)
{
    return character >= '0' && character <= '9';
}

static inline int is_capital(uint32_t character)
{
    return character >= 'A' && character <= 'Z';
}

static inline int is_small(uint32_t character)
{
    return character >= 'a' && character <= 'z';
}

static inline int is_syllable(uint32_t character)
{
    return character >= 0xAC00 && character <= 0xD7A3; /* 가 to 힣 */
}

static inline int is_one_of(uint32_t character, const char *set)
{
    for (; *set; set++)
        if (character == (uint32_t)*set)
            return 1;
    return 0;
}

static int contains(const uint32_t *value, int length, uint32_t character)
{
    for (int i = 0; i < length; i++)
        if (value[i] == character)
            return 1;
    return 0;
}

/* Where a run of `least` to `most` digits that begins at `at` ends; -1 where none does, or for an `at` of -1. */
static int past_digits(const uint32_t *value, int length, int at, int least, int most)
{
    int end = at;
    if (at < 0)
        return -1;
    while (end < length && is_digit(value[end]))
        end++;
    return end - at >= least && end - at <= most ? end : -1;
}

/* The same of a run of one to `most` characters of a set. */
static int past_signs(const uint32_t *value, int length, int at, const char *set, int most)
{
    int end = at;
    if (at < 0)
        return -1;
    while (end < length && is_one_of(value[end], set))
        end++;
    return end > at && end - at <= most ? end : -1;
}

/* Where a day of 1900 to 2099 (2023-10-12) that begins at `at` ends; -1 without one. At most `most` of the signs
 * stand between two of its numbers. */
static int past_day(const uint32_t *value, int length, int at, const char *signs, int most)
{
    int end = past_digits(value, length, at, 4, 4);
    if (end < 0 || !((value[at] == '1' && value[at + 1] == '9') || (value[at] == '2' && value[at + 1] == '0')))
        return -1;
    end = past_digits(value, length, past_signs(value, length, end, signs, most), 1, 2);
    return past_digits(value, length, past_signs(value, length, end, signs, most), 1, 2);
}

/* --- digits --------------------------------------------------------------------------------------------------- */

enum { MOST_DIGITS = 32 };

/* The ASCII digits of a value as numbers 0 to 9: the first MOST_DIGITS of them, no format has more; `count` counts all.
 * What lies behind `count` is 0. */
struct digits {
    uint8_t at[MOST_DIGITS];
    int count;
};

static inline void append(struct digits *digits, uint32_t character)
{
    if (digits->count < MOST_DIGITS)
        digits->at[digits->count] = (uint8_t)(character - '0');
    digits->count++;
}

static inline struct digits digits_of(const uint32_t *value, int length)
{
    struct digits digits = {{0}, 0};
    for (int i = 0; i < length; i++)
        if (is_digit(value[i]))
            append(&digits, value[i]);
    return digits;
}

/* How many digits a prefix has that the digits begin with; 0 where they do not. */
static int begins_with(const struct digits *digits, const char *prefix)
{
    int length = 0;
    for (; prefix[length]; length++)
        if (length >= digits->count || digits->at[length] != prefix[length] - '0')
            return 0;
    return length;
}

/* `count` digits from `start` on as a number. */
static int number(const struct digits *digits, int start, int count)
{
    int result = 0;
    for (int i = start; i < start + count; i++)
        result = result * 10 + digits->at[i];
    return result;
}

static int weighted(const struct digits *digits, const uint8_t *weights, int count)
{
    int total = 0;
    for (int i = 0; i < count; i++)
        total += digits->at[i] * weights[i];
    return total;
}

/* --- cards ---------------------------------------------------------------------------------------------------- */

static int luhn(const struct digits *digits)
{
    int total = 0;
    for (int i = 0; i < digits->count; i++) {
        int digit = digits->at[digits->count - 1 - i];
        if (i % 2)
            digit = digit < 5 ? 2 * digit : 2 * digit - 9;
        total += digit;
    }
    return total % 10 == 0;
}

static int all_the_same(const struct digits *digits)
{
    for (int i = 1; i < digits->count; i++)
        if (digits->at[i] != digits->at[0])
            return 0;
    return 1;
}

static int check_card(const uint32_t *value, int length)
{
    struct digits digits = digits_of(value, length);
    if (digits.count < 12 || digits.count > 19 || !luhn(&digits) || all_the_same(&digits))
        return CHECK_NO;
    for (int i = 0; i < COUNT_OF(CARD_RANGES); i++) {
        const struct card_range *range = &CARD_RANGES[i];
        int prefix = number(&digits, 0, range->prefix);
        if (range->first <= prefix && prefix <= range->last && range->lengths >> digits.count & 1)
            return CHECK_YES;
    }
    return CHECK_UNKNOWN;
}

static int check_parcel_length(const uint32_t *value, int length)
{
    (void)value;
    return length == 12 || length == 13 || length == 19 ? CHECK_YES : CHECK_NO;
}

/* --- registration numbers ------------------------------------------------------------------------------------- */

/* Whether the YYMMDD at `start` is a day of the calendar in the century (1900, 2000). */
static int birth_date(const struct digits *digits, int start, int century)
{
    static const uint8_t DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year = century + number(digits, start, 2);
    int month = number(digits, start + 2, 2);
    int day = number(digits, start + 4, 2);
    if (month < 1 || month > 12 || day < 1)
        return 0;
    if (month == 2 && year % 4 == 0 && year != 1900) /* of both centuries' turns 1900 alone was no leap year */
        return day <= 29;
    return day <= DAYS[month - 1];
}

static int check_resident_number(const uint32_t *value, int length)
{
    struct digits digits = digits_of(value, length);
    int kind = digits.at[6], total;
    if (digits.count != 13)
        return CHECK_NO;
    if (!birth_date(&digits, 0, kind == 3 || kind == 4 || kind == 7 || kind == 8 ? 2000 : 1900))
        return CHECK_NO;
    total = weighted(&digits, RESIDENT_WEIGHTS, COUNT_OF(RESIDENT_WEIGHTS));
    if (digits.at[12] == (11 - total % 11) % 10)
        return CHECK_YES;
    if (kind >= 5 && kind <= 8 && digits.at[12] == (13 - total % 11) % 10) /* foreigners' older numbers */
        return CHECK_YES;
    return CHECK_UNKNOWN;
}

/* GS1 check digit of 13 digits. */
static int ean13(const struct digits *digits)
{
    int total = 0;
    for (int i = 0; i < 12; i++)
        total += digits->at[i] * (i % 2 ? 3 : 1);
    return (10 - total % 10) % 10 == digits->at[12];
}

static int check_article_or_moment(const uint32_t *value, int length)
{
    struct digits digits = digits_of(value, length);
    int first;
    if (length != 13 || digits.count != 13)
        return CHECK_NO;
    if (ean13(&digits) && check_resident_number(value, length) != CHECK_YES)
        return CHECK_YES;
    first = number(&digits, 0, 2);
    return first >= 14 && first <= 17 && digits.at[6] != 1 && digits.at[6] != 2 ? CHECK_YES : CHECK_NO;
}

static int business_digits(const struct digits *digits)
{
    int total = weighted(digits, BUSINESS_WEIGHTS, COUNT_OF(BUSINESS_WEIGHTS)) + digits->at[8] * 5 / 10;
    return digits->count == 10 && (10 - total % 10) % 10 == digits->at[9] && number(digits, 0, 3) >= 101;
}

static int check_business_number(const uint32_t *value, int length)
{
    struct digits digits = digits_of(value, length);
    return business_digits(&digits) ? CHECK_YES : CHECK_NO;
}

static int check_no_hyphen(const uint32_t *value, int length)
{
    return contains(value, length, '-') ? CHECK_NO : CHECK_YES;
}

static int check_driver_license(const uint32_t *value, int length)
{
    struct digits digits = digits_of(value, length);
    if (digits.count != length)
        return CHECK_YES;
    if (length >= 8 && begins_with(&digits, "20") && birth_date(&digits, 2, 2000))
        return CHECK_NO;
    return CHECK_UNKNOWN;
}

static int check_us_ssn(const uint32_t *value, int length)
{
    struct digits digits = digits_of(value, length);
    int area = number(&digits, 0, 3);
    if (digits.count != 9 || area == 0 || area == 666 || area >= 900)
        return CHECK_NO;
    return number(&digits, 3, 2) != 0 && number(&digits, 5, 4) != 0 ? CHECK_YES : CHECK_NO;
}

/* --- phones --------------------------------------------------------------------------------------------------- */

/* How many digits +82 or 0082 take, a carrier's code between 00 and 82 included; 0 where the number has none. */
static int country_digits(const uint32_t *value, int length, const struct digits *digits)
{
    int start = 0;
    if (begins_with(digits, "82"))
        return digits->count > 2 ? 2 : 0;
    while (start < length && (value[start] == ' ' || value[start] == '('))
        start++;
    if (!(start < length && value[start] == '+')
        && !(start + 1 < length && value[start] == '0' && value[start + 1] == '0'))
        return 0;
    if (!begins_with(digits, "00"))
        return 0;
    for (int end = 4; end <= 7; end++)
        if (digits->count > end && digits->at[end - 2] == 8 && digits->at[end - 1] == 2)
            return end;
    return 0;
}

/* A Korean number's digits with the leading zero in place of +82 or 0082. */
static struct digits domestic(const uint32_t *value, int length)
{
    struct digits digits = digits_of(value, length);
    int skipped = country_digits(value, length, &digits);
    if (skipped == 0)
        return digits;
    digits = (struct digits){{0}, 1}; /* the leading zero; those that the number itself begins with are left out */
    for (int i = 0; i < length; i++)
        if (is_digit(value[i]) && --skipped < 0 && (value[i] != '0' || digits.count > 1))
            append(&digits, value[i]);
    return digits;
}

static int check_korean_mobile(const uint32_t *value, int length)
{
    struct digits digits = domestic(value, length);
    if (begins_with(&digits, "010")) {
        if (digits.count != 11)
            return CHECK_NO;
        return digits.at[3] < 2 ? CHECK_UNKNOWN : CHECK_YES;
    }
    if (!begins_with(&digits, "01") || (digits.at[2] != 1 && digits.at[2] < 6))
        return CHECK_NO;
    return digits.count == 10 || digits.count == 11 ? CHECK_YES : CHECK_NO;
}

static int check_korean_landline(const uint32_t *value, int length)
{
    struct digits digits = domestic(value, length);
    for (int i = 0; i < COUNT_OF(AREA_CODES); i++) {
        int area = begins_with(&digits, AREA_CODES[i]);
        if (area == 0)
            continue;
        if (digits.count != area + 7 && digits.count != area + 8) /* an exchange of three or four, a line of four */
            return CHECK_NO;
        return digits.at[area] < 2 ? CHECK_UNKNOWN : CHECK_YES;
    }
    return CHECK_NO;
}

/* The digits before an extension ("x12", "ext. 12"). */
static struct digits without_extension(const uint32_t *value, int length)
{
    int end = 0;
    while (end < length && value[end] != 'x' && value[end] != 'X')
        end++;
    return digits_of(value, end);
}

static int check_e164(const uint32_t *value, int length)
{
    struct digits digits = without_extension(value, length);
    if (digits.count < 8 || digits.count > 15)
        return CHECK_NO;
    for (int i = 0; i < COUNT_OF(UNASSIGNED_CODES); i++)
        if (begins_with(&digits, UNASSIGNED_CODES[i]))
            return CHECK_NO;
    return CHECK_YES;
}

static int check_nanp(const uint32_t *value, int length)
{
    struct digits digits = without_extension(value, length);
    if (digits.count < 10 || digits.count > 13)
        return CHECK_NO;
    return digits.at[digits.count - 10] >= 2 && digits.at[digits.count - 7] >= 2 ? CHECK_YES : CHECK_UNKNOWN;
}

/* A line that the called one pays for: 080, behind a bracket perhaps, and a sign. */
static int is_free_line(const uint32_t *value, int length)
{
    int at = length > 0 && value[0] == '(';
    return length - at > 3 && value[at] == '0' && value[at + 1] == '8' && value[at + 2] == '0'
        && is_one_of(value[at + 3], "-. )");
}

static int check_loose_phone(const uint32_t *value, int length)
{
    struct digits digits = without_extension(value, length);
    int first = 0;
    if (digits.count < 7 || digits.count > 15 || is_free_line(value, length))
        return CHECK_NO;
    if (digits.count == 8 && digits.at[0] == 1 && (digits.at[1] == 5 || digits.at[1] == 6 || digits.at[1] == 8))
        return CHECK_NO;
    while (!is_digit(value[first])) /* there are seven digits at least */
        first++;
    return past_day(value, length, first, "-./ ", 2) < 0 ? CHECK_UNKNOWN : CHECK_NO;
}

/* --- accounts ------------------------------------------------------------------------------------------------- */

/* The lengths of what lies between hyphens and spaces, as ACCOUNT_GROUPS has them; 0 where no bank has so many. */
static uint32_t grouping(const uint32_t *value, int length)
{
    uint32_t groups = 1;
    int start = 0;
    for (int i = 0; i <= length; i++)
        if (i == length || value[i] == '-' || value[i] == ' ') {
            if (i - start > 0xF || groups > 0xFFFFFFF)
                return 0;
            groups = groups << 4 | (uint32_t)(i - start);
            start = i + 1;
        }
    return groups;
}

/* Whether a value is grouped as a phone: 0 and an area or mobile code, an exchange, a line. */
static int is_grouped_as_phone(const uint32_t *value, int length)
{
    int end = past_digits(value, length, 0, 2, 3);
    end = past_digits(value, length, past_signs(value, length, end, "- ", 1), 3, 4);
    end = past_digits(value, length, past_signs(value, length, end, "- ", 1), 4, 4);
    return end == length && value[0] == '0';
}

static int check_korean_account(const uint32_t *value, int length)
{
    struct digits digits = digits_of(value, length);
    uint32_t groups;
    if (digits.count < 10 || digits.count > 16)
        return CHECK_NO;
    if (digits.count <= 11 && begins_with(&digits, "01") && (digits.at[2] < 2 || digits.at[2] > 5)) /* a mobile */
        return CHECK_NO;
    if (digits.count == 10 && contains(value, length, '-') && business_digits(&digits))
        return CHECK_NO;
    if (is_grouped_as_phone(value, length) && check_korean_landline(value, length) != CHECK_NO)
        return CHECK_NO;
    groups = grouping(value, length);
    for (int i = 0; i < COUNT_OF(ACCOUNT_GROUPS); i++)
        if (groups == ACCOUNT_GROUPS[i])
            return CHECK_YES;
    return CHECK_UNKNOWN;
}

static int check_labelled_account(const uint32_t *value, int length)
{
    struct digits digits = digits_of(value, length);
    if (digits.count < 6 || past_day(value, length, 0, "-", 1) == length)
        return CHECK_NO;
    return CHECK_UNKNOWN;
}

/* Whether a capital or digit is what an IBAN's structure asks for. */
static int is_of_class(char character, char class)
{
    if (is_digit((uint32_t)character))
        return class != 'a';
    return is_capital((uint32_t)character) && class != 'n';
}

enum { LONGEST_IBAN = 34 }; /* ISO 13616 */

static int check_iban(const uint32_t *value, int length)
{
    char compact[LONGEST_IBAN];
    int count = 0, capitals = 0, smalls = 0, remainder = 0;
    const struct iban_format *format = NULL;
    for (int i = 0; i < length; i++) {
        if (value[i] == ' ' || value[i] == '-')
            continue;
        if (count == LONGEST_IBAN || value[i] > 0x7F)
            return CHECK_NO;
        capitals += is_capital(value[i]);
        smalls += is_small(value[i]);
        compact[count++] = (char)(is_small(value[i]) ? value[i] - 'a' + 'A' : value[i]);
    }
    if (count < 4 || (capitals && smalls))
        return CHECK_NO;
    for (int i = 0; i < COUNT_OF(IBAN_FORMATS) && format == NULL; i++)
        if (memcmp(compact, IBAN_FORMATS[i].country, 2) == 0)
            format = &IBAN_FORMATS[i];
    if (format == NULL || (int)strlen(format->structure) != count - 4)
        return CHECK_NO;
    if (!is_digit((uint32_t)compact[2]) || !is_digit((uint32_t)compact[3]))
        return CHECK_NO;
    for (int i = 4; i < count; i++)
        if (!is_of_class(compact[i], format->structure[i - 4]))
            return CHECK_NO;
    for (int i = 0; i < count; i++) { /* country and check digits count last, A as 10 to Z as 35 */
        char character = compact[(i + 4) % count];
        if (is_digit((uint32_t)character))
            remainder = (remainder * 10 + character - '0') % 97;
        else
            remainder = (remainder * 100 + character - 'A' + 10) % 97;
    }
    return remainder == 1 ? CHECK_YES : CHECK_NO;
}

/* --- addresses of mail, plates, secrets ----------------------------------------------------------------------- */

/* Whether a text is a word of small letters, capitals read as small ones. */
static int is_word(const uint32_t *text, int length, const char *word)
{
    if ((int)strlen(word) != length)
        return 0;
    for (int i = 0; i < length; i++)
        if ((is_capital(text[i]) ? text[i] - 'A' + 'a' : text[i]) != (uint32_t)word[i])
            return 0;
    return 1;
}

static int check_email(const uint32_t *value, int length)
{
    int at = -1, last = 0; /* where the last @ stands, and where the last label begins */
    if (length > 254)
        return CHECK_NO;
    for (int i = 0; i < length; i++) {
        if (value[i] == '.' && i + 1 < length && value[i + 1] == '.')
            return CHECK_NO;
        if (value[i] == '@')
            at = i;
        if (value[i] == '@' || value[i] == '.')
            last = i + 1;
    }
    if (at > 0 && value[at - 1] == '.')
        return CHECK_NO;
    for (int i = 0; i < COUNT_OF(FILE_ENDINGS); i++)
        if (is_word(value + last, length - last, FILE_ENDINGS[i]))
            return CHECK_NO;
    return CHECK_YES;
}

static int check_plate(const uint32_t *value, int length)
{
    for (int i = 0; i + 1 < length; i++) {
        if (!is_digit(value[i]) || !is_syllable(value[i + 1]))
            continue;
        for (int j = 0; j < COUNT_OF(AMBIGUOUS_PLATE); j++)
            if (value[i + 1] == AMBIGUOUS_PLATE[j])
                return CHECK_UNKNOWN;
        return CHECK_YES;
    }
    return CHECK_UNKNOWN;
}

static int check_secret(const uint32_t *value, int length)
{
    for (int i = 0; i < length; i++)
        if (value[i] >= '!' && value[i] <= '~' && !is_capital(value[i]) && !is_small(value[i]))
            return CHECK_UNKNOWN;
    return CHECK_NO;
}

static int check_dumped_secret(const uint32_t *value, int length)
{
    return contains(value, length, '@') ? CHECK_NO : check_secret(value, length);
}

static int check_url_login(const uint32_t *value, int length)
{
    (void)value, (void)length;
    return CHECK_YES;
}

/* The checks by the names of their Python functions. */
static const struct {
    const char *name;
    check_function function;
} CHECKS[] = {
    {"article_or_moment", check_article_or_moment},
    {"business_number", check_business_number},
    {"card", check_card},
    {"driver_license", check_driver_license},
    {"dumped_secret", check_dumped_secret},
    {"e164", check_e164},
    {"email", check_email},
    {"iban", check_iban},
    {"korean_account", check_korean_account},
    {"korean_landline", check_korean_landline},
    {"korean_mobile", check_korean_mobile},
    {"labelled_account", check_labelled_account},
    {"loose_phone", check_loose_phone},
    {"nanp", check_nanp},
    {"no_hyphen", check_no_hyphen},
    {"parcel_length", check_parcel_length},
    {"plate", check_plate},
    {"resident_number", check_resident_number},
    {"secret", check_secret},
    {"url_login", check_url_login},
    {"us_ssn", check_us_ssn},
};

#endif
