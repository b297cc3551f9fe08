// What every evaluation of a backbone is about: the model, its tokens and the texts.
#pragma once

#include <cstdint>

#include "core/evaluation/progress.h"
#include "core/evaluation/reader.h"
#include "core/text/tokenizer.h"
#include "core/training/corpus.h"

namespace dreamstate::evaluation {

// References only; all outlive the evaluation.
struct BackboneUnderTest {
  Reader& reader;
  const text::Tokenizer& tokenizer;  // the corpus's and the model's
  int32_t separator = 0;             // token between two texts: fed first where nothing is known
  const training::Corpus& corpus;
  StageProgress progress = {};
};

}  // namespace dreamstate::evaluation
