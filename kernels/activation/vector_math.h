// exp, sigmoid and tanh of a vector V (kernels/runtime/vector_*.h), by polynomials after Cephes (S.
// Moshier). Relative error below 5e-7 where the result is a normal number; NaN stays NaN; exp
// underflows to 0 and overflows to infinity. Instantiated with types of internal linkage only,
// hence internal themselves.
#pragma once

namespace dreamstate::kernels {

template <class V>
inline typename V::Type Exp(typename V::Type x) {
  using Type = typename V::Type;
  // Beyond these the result is infinity, or 0, whatever the argument. NaN passes.
  x = V::Min(V::Set(89.0f), x);
  x = V::Max(V::Set(-104.5f), x);
  // x = n ln 2 + r with |r| <= ln(2) / 2; ln 2 in two parts, so that n times the first is exact.
  const Type n = V::Round(V::Mul(x, V::Set(1.44269504088896341f)));
  Type r = V::Fma(n, V::Set(-0.693359375f), x);
  r = V::Fma(n, V::Set(2.12194440e-4f), r);
  Type p = V::Set(1.9875691500e-4f);
  p = V::Fma(p, r, V::Set(1.3981999507e-3f));
  p = V::Fma(p, r, V::Set(8.3334519073e-3f));
  p = V::Fma(p, r, V::Set(4.1665795894e-2f));
  p = V::Fma(p, r, V::Set(1.6666665459e-1f));
  p = V::Fma(p, r, V::Set(5.0000001201e-1f));
  p = V::Fma(p, V::Mul(r, r), V::Add(r, V::Set(1.0f)));
  return V::Scale(p, n);
}

template <class V>
inline typename V::Type Sigmoid(typename V::Type x) {
  const typename V::Type one = V::Set(1.0f);
  return V::Div(one, V::Add(one, Exp<V>(V::Sub(V::Zero(), x))));
}

template <class V>
inline typename V::Type Tanh(typename V::Type x) {
  using Type = typename V::Type;
  const Type size = V::Abs(x);
  // Near 0 an odd polynomial, since 1 - 2 / (...) would cancel.
  const Type z = V::Mul(x, x);
  Type p = V::Set(-5.70498872745e-3f);
  p = V::Fma(p, z, V::Set(2.06390887954e-2f));
  p = V::Fma(p, z, V::Set(-5.37397155531e-2f));
  p = V::Fma(p, z, V::Set(1.33314422036e-1f));
  p = V::Fma(p, z, V::Set(-3.33332819422e-1f));
  const Type near = V::Fma(V::Mul(p, z), x, x);
  const Type one = V::Set(1.0f);
  const Type far = V::Sub(one, V::Div(V::Set(2.0f), V::Add(Exp<V>(V::Add(size, size)), one)));
  return V::Select(V::Less(size, V::Set(0.625f)), near, V::CopySign(far, x));
}

}  // namespace dreamstate::kernels
