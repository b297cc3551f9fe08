// The operators of time_mix_gradient.h for a vector type V whose lanes divide 16.
#pragma once

#include "kernels/activation/vector_math.h"
#include "kernels/time_mix_gradient/time_mix_gradient_isa.h"

namespace dreamstate::kernels {

template <class V>
inline typename V::Type LoadElements(const float* p) {
  return V::Load(p);
}
template <class V>
inline typename V::Type LoadElements(const Bf16* p) {
  return V::LoadBf16(p);
}
template <class V>
inline void StoreElements(float* p, typename V::Type a) {
  V::Store(p, a);
}
template <class V>
inline void StoreElements(Bf16* p, typename V::Type a) {
  V::StoreBf16(p, a);
}

// Adds to an array.
template <class V>
inline void AddTo(float* p, typename V::Type a) {
  V::Store(p, V::Add(V::Load(p), a));
}

// Sum over i < width, a multiple of 16, of term(i).
template <class V, class Term>
inline float SumOfRow(int width, const Term& term) {
  typename V::Type first = V::Zero(), second = V::Zero();
  int i = 0;
  for (; i + 2 * V::kLanes <= width; i += 2 * V::kLanes) {
    first = V::Add(first, term(i));
    second = V::Add(second, term(i + V::kLanes));
  }
  for (; i < width; i += V::kLanes) first = V::Add(first, term(i));
  return V::Sum(V::Add(first, second));
}

// Mean and inverse deviation of a row.
template <class V>
inline void RowMoments(const float* x, int width, float epsilon, float* moments) {
  using Type = typename V::Type;
  const float count = static_cast<float>(width);
  const float mean = SumOfRow<V>(width, [&](int i) { return V::Load(x + i); }) / count;
  const Type center = V::Set(mean);
  const float squares = SumOfRow<V>(width, [&](int i) {
    const Type d = V::Sub(V::Load(x + i), center);
    return V::Mul(d, d);
  });
  moments[0] = mean;
  moments[1] = 1.0f / __builtin_sqrtf(squares / count + epsilon);
}

// z of a row by its moments.
template <class V>
inline void NormRow(const float* x, const float* moments, const float* weight, const float* bias,
                    int width, float* z) {
  const typename V::Type mean = V::Set(moments[0]), scale = V::Set(moments[1]);
  for (int i = 0; i < width; i += V::kLanes) {
    const typename V::Type normed = V::Mul(V::Sub(V::Load(x + i), mean), scale);
    V::Store(z + i, V::Fma(normed, V::Load(weight + i), V::Load(bias + i)));
  }
}

// z of the row before `row`, of its sequence; moments are computed where `moments` is null.
template <class V, typename Element>
inline void NormBefore(const NormShiftMixBlock<Element>& block, int64_t row, const float* moments,
                       float* z) {
  const int width = block.shape.width, tokens = block.shape.tokens;
  if (row % tokens == 0) {
    const float* before = block.inputs.before;
    for (int i = 0; i < width; i += V::kLanes) {
      V::Store(z + i, before == nullptr ? V::Zero() : V::Load(before + row / tokens * width + i));
    }
    return;
  }
  const float* x = block.inputs.x + (row - 1) * width;
  float own[2];
  if (moments == nullptr) {
    RowMoments<V>(x, width, block.shape.epsilon, own);
  } else {
    own[0] = moments[2 * (row - 1)];
    own[1] = moments[2 * (row - 1) + 1];
  }
  NormRow<V>(x, own, block.inputs.weight, block.inputs.bias, width, z);
}

template <class V, typename Element>
void NormShiftMixForwardVector(const NormShiftMixBlock<Element>& block) {
  using Type = typename V::Type;
  const int width = block.shape.width, tokens = block.shape.tokens, mixes = block.shape.mixes;
  float* before = block.scratch;
  float* z = block.scratch + width;
  for (int64_t row = block.begin; row < block.end; ++row) {
    if (row == block.begin || row % tokens == 0) NormBefore<V>(block, row, nullptr, before);
    const float* x = block.inputs.x + row * width;
    RowMoments<V>(x, width, block.shape.epsilon, block.moments + 2 * row);
    NormRow<V>(x, block.moments + 2 * row, block.inputs.weight, block.inputs.bias, width, z);
    for (int i = 0; i < width; i += V::kLanes) {
      const Type here = V::Load(z + i);
      const Type difference = V::Sub(V::Load(before + i), here);
      for (int n = 0; n < mixes; ++n) {
        StoreElements<V>(block.mixed[n] + row * width + i,
                         V::Fma(difference, V::Load(block.inputs.mix + n * width + i), here));
      }
    }
    if (row % tokens == tokens - 1) {
      float* last = block.last + row / tokens * width;
      for (int i = 0; i < width; i += V::kLanes) V::Store(last + i, V::Load(z + i));
    }
    float* swap = before;
    before = z;
    z = swap;
  }
}

template <class V, typename Element>
void NormShiftMixBackwardVector(const NormShiftMixBlock<Element>& block) {
  using Type = typename V::Type;
  const int width = block.shape.width, tokens = block.shape.tokens, mixes = block.shape.mixes;
  const NormShiftMixInputs& in = block.inputs;
  const NormShiftMixGradients& out = block.gradients;
  float* before = block.scratch;
  float* dz = block.scratch + width;
  for (int64_t row = block.begin; row < block.end; ++row) {
    const int64_t sequence = row / tokens;
    const bool is_last = row % tokens == tokens - 1;
    const float* x = in.x + row * width;
    const Type mean = V::Set(block.moments[2 * row]), scale = V::Set(block.moments[2 * row + 1]);
    NormBefore<V>(block, row, block.moments, before);
    const bool wants_before = row % tokens == 0 && out.before != nullptr;
    // Sums that the layer norm's gradient needs.
    Type sum = V::Zero(), sum_normed = V::Zero();
    for (int i = 0; i < width; i += V::kLanes) {
      const Type normed = V::Mul(V::Sub(V::Load(x + i), mean), scale);
      const Type weight = V::Load(in.weight + i);
      const Type difference =
          V::Sub(V::Load(before + i), V::Fma(normed, weight, V::Load(in.bias + i)));
      Type total = is_last && block.d_last != nullptr ? V::Load(block.d_last + sequence * width + i)
                                                      : V::Zero();
      Type shifted = V::Zero();
      for (int n = 0; n < mixes; ++n) {
        const Type mix = V::Load(in.mix + n * width + i);
        const Type d = LoadElements<V>(block.d_mixed[n] + row * width + i);
        AddTo<V>(out.mix + n * width + i, V::Mul(d, difference));
        total = V::Fma(d, V::Sub(V::Set(1.0f), mix), total);
        if (wants_before) shifted = V::Fma(d, mix, shifted);
        if (!is_last) {
          total = V::Fma(LoadElements<V>(block.d_mixed[n] + (row + 1) * width + i), mix, total);
        }
      }
      if (wants_before) V::Store(out.before + sequence * width + i, shifted);
      AddTo<V>(out.weight + i, V::Mul(total, normed));
      AddTo<V>(out.bias + i, total);
      const Type d_normed = V::Mul(total, weight);
      V::Store(dz + i, d_normed);
      sum = V::Add(sum, d_normed);
      sum_normed = V::Fma(d_normed, normed, sum_normed);
    }
    const float count = static_cast<float>(width);
    const Type mean_d = V::Set(V::Sum(sum) / count), mean_dn = V::Set(V::Sum(sum_normed) / count);
    for (int i = 0; i < width; i += V::kLanes) {
      const Type normed = V::Mul(V::Sub(V::Load(x + i), mean), scale);
      const Type d = V::Sub(V::Sub(V::Load(dz + i), mean_d), V::Mul(normed, mean_dn));
      const int64_t e = row * width + i;
      const Type residual = block.d_residual != nullptr ? V::Load(block.d_residual + e) : V::Zero();
      V::Store(out.x + e, V::Fma(d, scale, residual));
    }
  }
}

// 1 / max(|k ⊙ k_k|, 1e-12) of a head, as torch's normalize.
template <class V, typename Element>
inline float InverseNorm(const Element* k, const float* k_k, int size) {
  const float squares = SumOfRow<V>(size, [&](int i) {
    const typename V::Type a = V::Mul(LoadElements<V>(k + i), V::Load(k_k + i));
    return V::Mul(a, a);
  });
  const float norm = __builtin_sqrtf(squares);
  return 1.0f / (norm > 1e-12f ? norm : 1e-12f);
}

template <class V, typename Element>
void Wkv7PrepareForwardVector(const Wkv7PrepareBlock<Element>& block) {
  using Type = typename V::Type;
  const int size = block.shape.head_size, width = block.shape.heads * size;
  const Wkv7PrepareInputs<Element>& in = block.inputs;
  const Wkv7Prepared& out = block.out;
  const Type one = V::Set(1.0f);
  for (int64_t row = block.begin; row < block.end; ++row) {
    for (int c = 0; c < width; c += size) {
      const int64_t head = row * width + c;
      const Type inverse = V::Set(InverseNorm<V>(in.k + head, in.k_k + c, size));
      for (int i = 0; i < size; i += V::kLanes) {
        const int64_t e = head + i;
        const int p = c + i;
        const Type k = LoadElements<V>(in.k + e);
        const Type rate = Sigmoid<V>(V::Add(V::Load(in.a0 + p), LoadElements<V>(in.a_low + e)));
        const Type kk = V::Mul(V::Mul(k, V::Load(in.k_k + p)), inverse);
        V::Store(out.r + e, LoadElements<V>(in.r + e));
        V::Store(out.w + e, V::Add(V::Load(in.w0 + p), LoadElements<V>(in.w_low + e)));
        V::Store(out.k + e, V::Mul(k, V::Fma(V::Sub(rate, one), V::Load(in.k_a + p), one)));
        V::Store(out.a + e, V::Sub(V::Zero(), kk));
        V::Store(out.b + e, V::Mul(kk, rate));
        Type v = LoadElements<V>(in.v + e);
        if (in.v_first != nullptr) {
          const Type share = Sigmoid<V>(V::Add(V::Load(in.v0 + p), LoadElements<V>(in.v_low + e)));
          v = V::Fma(V::Sub(V::Load(in.v_first + e), v), share, v);
        }
        V::Store(out.v + e, v);
      }
    }
  }
}

template <class V, typename Element>
void Wkv7PrepareBackwardVector(const Wkv7PrepareBlock<Element>& block) {
  using Type = typename V::Type;
  const int size = block.shape.head_size, width = block.shape.heads * size;
  const Wkv7PrepareInputs<Element>& in = block.inputs;
  const Wkv7PreparedGradients& d = block.d_out;
  const Wkv7PrepareGradients<Element>& out = block.gradients;
  const Type one = V::Set(1.0f);
  for (int64_t row = block.begin; row < block.end; ++row) {
    for (int c = 0; c < width; c += size) {
      const int64_t head = row * width + c;
      const float inverse_norm = InverseNorm<V>(in.k + head, in.k_k + c, size);
      const Type inverse = V::Set(inverse_norm);
      const auto rate_at = [&](int i) {
        return Sigmoid<V>(V::Add(V::Load(in.a0 + c + i), LoadElements<V>(in.a_low + head + i)));
      };
      const auto kk_at = [&](int i) {
        return V::Mul(V::Mul(LoadElements<V>(in.k + head + i), V::Load(in.k_k + c + i)), inverse);
      };
      // Of kk: -da + db rate. Its part along kk is what the normalisation takes away.
      const auto d_kk_at = [&](int i, Type rate) {
        return V::Sub(V::Mul(V::Load(d.b + head + i), rate), V::Load(d.a + head + i));
      };
      const Type along = V::Set(
          SumOfRow<V>(size, [&](int i) { return V::Mul(kk_at(i), d_kk_at(i, rate_at(i))); }));
      const bool finish = d.finish_r != nullptr;
      const auto with_finish = [&](const float* of_wkv, const float* of_finish, int64_t e) {
        return finish ? V::Add(V::Load(of_wkv + e), V::Load(of_finish + e)) : V::Load(of_wkv + e);
      };
      for (int i = 0; i < size; i += V::kLanes) {
        const int64_t e = head + i;
        const int p = c + i;
        const Type k = LoadElements<V>(in.k + e);
        const Type k_k = V::Load(in.k_k + p), k_a = V::Load(in.k_a + p);
        const Type rate = rate_at(i);
        const Type kk = kk_at(i);
        const Type dk = with_finish(d.k, d.finish_k, e);
        const Type d_scaled =
            V::Mul(V::Sub(d_kk_at(i, rate), V::Mul(kk, along)), inverse);  // of k ⊙ k_k
        const Type less = V::Sub(rate, one);
        const Type dk_k = V::Mul(dk, k);
        StoreElements<V>(out.k + e, V::Fma(dk, V::Fma(less, k_a, one), V::Mul(d_scaled, k_k)));
        AddTo<V>(out.k_a + p, V::Mul(dk_k, less));
        AddTo<V>(out.k_k + p, V::Mul(d_scaled, k));
        const Type d_rate = V::Fma(V::Load(d.b + e), kk, V::Mul(dk_k, k_a));
        const Type da = V::Mul(d_rate, V::Mul(rate, V::Sub(one, rate)));
        StoreElements<V>(out.a_low + e, da);
        AddTo<V>(out.a0 + p, da);
        const Type dw = V::Load(d.w + e);
        StoreElements<V>(out.w_low + e, dw);
        AddTo<V>(out.w0 + p, dw);
        StoreElements<V>(out.r + e, with_finish(d.r, d.finish_r, e));
        Type dv = with_finish(d.v, d.finish_v, e);
        if (in.v_first != nullptr) {
          const Type share = Sigmoid<V>(V::Add(V::Load(in.v0 + p), LoadElements<V>(in.v_low + e)));
          const Type difference = V::Sub(V::Load(in.v_first + e), LoadElements<V>(in.v + e));
          const Type d_first = V::Mul(dv, share);
          const Type d_share = V::Mul(V::Mul(d_first, V::Sub(one, share)), difference);
          V::Store(out.v_first + e, d_first);
          StoreElements<V>(out.v_low + e, d_share);
          AddTo<V>(out.v0 + p, d_share);
          dv = V::Sub(dv, d_first);
        }
        StoreElements<V>(out.v + e, dv);
      }
    }
  }
}

template <class V, typename Element>
inline float Bonus(const Wkv7FinishInputs<Element>& in, int64_t head, int c, int size) {
  return SumOfRow<V>(size, [&](int i) {
    return V::Mul(V::Mul(V::Load(in.r + head + i), V::Load(in.k + head + i)),
                  V::Load(in.r_k + c + i));
  });
}

template <class V, typename Element>
void Wkv7FinishForwardVector(const Wkv7FinishBlock<Element>& block) {
  using Type = typename V::Type;
  const int size = block.shape.head_size, width = block.shape.heads * size;
  const Wkv7FinishInputs<Element>& in = block.inputs;
  for (int64_t row = block.begin; row < block.end; ++row) {
    for (int c = 0; c < width; c += size) {
      const int64_t head = row * width + c;
      float moments[2];
      RowMoments<V>(in.y + head, size, kGroupNormEpsilon, moments);
      const Type mean = V::Set(moments[0]), scale = V::Set(moments[1]);
      const Type bonus = V::Set(Bonus<V>(in, head, c, size));
      for (int i = 0; i < size; i += V::kLanes) {
        const int64_t e = head + i;
        const Type normed = V::Mul(V::Sub(V::Load(in.y + e), mean), scale);
        const Type affine = V::Fma(normed, V::Load(in.weight + c + i), V::Load(in.bias + c + i));
        StoreElements<V>(block.out + e, V::Mul(V::Fma(bonus, V::Load(in.v + e), affine),
                                               LoadElements<V>(in.gate + e)));
      }
    }
  }
}

template <class V, typename Element>
void Wkv7FinishBackwardVector(const Wkv7FinishBlock<Element>& block) {
  using Type = typename V::Type;
  const int size = block.shape.head_size, width = block.shape.heads * size;
  const Wkv7FinishInputs<Element>& in = block.inputs;
  const Wkv7FinishGradients<Element>& out = block.gradients;
  for (int64_t row = block.begin; row < block.end; ++row) {
    for (int c = 0; c < width; c += size) {
      const int64_t head = row * width + c;
      float moments[2];
      RowMoments<V>(in.y + head, size, kGroupNormEpsilon, moments);
      const Type mean = V::Set(moments[0]), scale = V::Set(moments[1]);
      const Type bonus = V::Set(Bonus<V>(in, head, c, size));
      Type sum = V::Zero(), sum_normed = V::Zero(), d_bonus_lanes = V::Zero();
      for (int i = 0; i < size; i += V::kLanes) {
        const int64_t e = head + i;
        const Type normed = V::Mul(V::Sub(V::Load(in.y + e), mean), scale);
        const Type weight = V::Load(in.weight + c + i);
        const Type affine = V::Fma(normed, weight, V::Load(in.bias + c + i));
        const Type v = V::Load(in.v + e);
        const Type g = LoadElements<V>(block.d_out + e);
        StoreElements<V>(out.gate + e, V::Mul(g, V::Fma(bonus, v, affine)));
        const Type d = V::Mul(g, LoadElements<V>(in.gate + e));
        AddTo<V>(out.weight + c + i, V::Mul(d, normed));
        AddTo<V>(out.bias + c + i, d);
        V::Store(out.v + e, V::Mul(d, bonus));
        d_bonus_lanes = V::Fma(d, v, d_bonus_lanes);
        const Type d_normed = V::Mul(d, weight);
        V::Store(out.y + e, d_normed);
        sum = V::Add(sum, d_normed);
        sum_normed = V::Fma(d_normed, normed, sum_normed);
      }
      const float count = static_cast<float>(size);
      const Type mean_d = V::Set(V::Sum(sum) / count);
      const Type mean_dn = V::Set(V::Sum(sum_normed) / count);
      const Type d_bonus = V::Set(V::Sum(d_bonus_lanes));
      for (int i = 0; i < size; i += V::kLanes) {
        const int64_t e = head + i;
        const Type normed = V::Mul(V::Sub(V::Load(in.y + e), mean), scale);
        const Type d = V::Sub(V::Sub(V::Load(out.y + e), mean_d), V::Mul(normed, mean_dn));
        V::Store(out.y + e, V::Mul(d, scale));
        const Type r = V::Load(in.r + e), k = V::Load(in.k + e), r_k = V::Load(in.r_k + c + i);
        const Type weighted = V::Mul(d_bonus, r_k);
        V::Store(out.r + e, V::Mul(weighted, k));
        V::Store(out.k + e, V::Mul(weighted, r));
        AddTo<V>(out.r_k + c + i, V::Mul(d_bonus, V::Mul(r, k)));
      }
    }
  }
}

template <class V, typename Element>
void SquaredReluVector(const SquaredReluBlock<Element>& block) {
  for (int64_t i = block.begin; i < block.end; i += V::kLanes) {
    const typename V::Type positive = V::Max(V::Zero(), LoadElements<V>(block.x + i));
    const typename V::Type factor =
        block.d_out == nullptr
            ? positive
            : V::Add(LoadElements<V>(block.d_out + i), LoadElements<V>(block.d_out + i));
    StoreElements<V>(block.out + i, V::Mul(positive, factor));
  }
}

template <class V, typename Element>
inline constexpr TimeMixFunctions<Element> kTimeMixFunctions = {
    NormShiftMixForwardVector<V, Element>, NormShiftMixBackwardVector<V, Element>,
    Wkv7PrepareForwardVector<V, Element>,  Wkv7PrepareBackwardVector<V, Element>,
    Wkv7FinishForwardVector<V, Element>,   Wkv7FinishBackwardVector<V, Element>,
    SquaredReluVector<V, Element>};

}  // namespace dreamstate::kernels
