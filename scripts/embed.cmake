# Writes OUTPUT, a C file that defines `const char SYMBOL[]` with the bytes of INPUT and a NUL behind
# them, `const size_t SYMBOL_size` without it, and `const char SYMBOL_sha256[]`, in 64 hex digits.
file(READ ${INPUT} hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR size "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n"
	bytes "${bytes}")
# A byte of 0x80 and above is no int that a char can hold, so it is written as a cast.
string(REGEX REPLACE "0x([89a-f].)," "(char)0x\\1," bytes "${bytes}")
file(SHA256 ${INPUT} digest)
get_filename_component(name ${INPUT} NAME)
file(WRITE ${OUTPUT} "/* Made from ${name}. */
#include <stddef.h>
extern const char ${SYMBOL}[];
extern const size_t ${SYMBOL}_size;
extern const char ${SYMBOL}_sha256[];
const char ${SYMBOL}[] = {
${bytes}0};
const size_t ${SYMBOL}_size = ${size};
const char ${SYMBOL}_sha256[] = \"${digest}\";
")
