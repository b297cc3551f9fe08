// The vocabulary's file as bytes of the program; the build names it (DREAMSTATE_WORLD_VOCABULARY).
// The assembler takes it in: the compiler would need minutes for a literal of that size.
#include "core/text/world_vocabulary.h"

asm(".pushsection .rodata\n"
    ".globl dreamstate_world_vocabulary_begin\n"
    ".hidden dreamstate_world_vocabulary_begin\n"
    ".globl dreamstate_world_vocabulary_end\n"
    ".hidden dreamstate_world_vocabulary_end\n"
    "dreamstate_world_vocabulary_begin:\n"
    ".incbin \"" DREAMSTATE_WORLD_VOCABULARY
    "\"\n"
    "dreamstate_world_vocabulary_end:\n"
    ".byte 0\n"
    ".popsection\n");

extern "C" {
extern const char dreamstate_world_vocabulary_begin[] __attribute__((visibility("hidden")));
extern const char dreamstate_world_vocabulary_end[] __attribute__((visibility("hidden")));
}

namespace dreamstate::text {

std::string_view WorldVocabularyText() {
  return {dreamstate_world_vocabulary_begin,
          static_cast<size_t>(dreamstate_world_vocabulary_end - dreamstate_world_vocabulary_begin)};
}

}  // namespace dreamstate::text
