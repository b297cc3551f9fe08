// The CUDA kernels of WKV-7 against those of the CPU. Needs a GPU; skips where there is none.
#include "kernels/wkv7_gradient/wkv7_gradient_cuda.h"

#include <cuda_runtime_api.h>

#include "tests/kernels/isa_test.h"

namespace dreamstate::kernels {
namespace {

// Floats on the device, freed with this.
class DeviceArray {
 public:
  explicit DeviceArray(size_t size) : size_(size) {
    EXPECT_EQ(cudaMalloc(&memory_, size * sizeof(float)), cudaSuccess);
    // Not a number: what a kernel leaves out is seen.
    EXPECT_EQ(cudaMemset(memory_, 0xff, size * sizeof(float)), cudaSuccess);
  }
  explicit DeviceArray(const Misaligned& values) : DeviceArray(values.size()) {
    EXPECT_EQ(cudaMemcpy(memory_, values.data(), size_ * sizeof(float), cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  ~DeviceArray() { cudaFree(memory_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  float* get() const { return static_cast<float*>(memory_); }
  std::vector<float> Host() const {
    std::vector<float> values(size_);
    EXPECT_EQ(cudaMemcpy(values.data(), memory_, size_ * sizeof(float), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return values;
  }

 private:
  size_t size_;
  void* memory_ = nullptr;
};

class Wkv7GradientCudaTest : public testing::TestWithParam<Wkv7TrainingShape> {
 protected:
  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
      GTEST_SKIP() << "no CUDA device is here";
    }
  }
};

double Error(const std::vector<float>& found, const Misaligned& expected) {
  double largest = 0.0, error = 0.0;
  for (size_t i = 0; i < found.size(); ++i) {
    largest = std::max(largest, static_cast<double>(std::abs(expected[i])));
    const double difference = std::abs(found[i] - expected[i]);
    if (!(difference <= error)) error = difference;
  }
  // A gradient that is zero everywhere is compared as it is.
  return largest > 0.0 ? error / largest : error;
}

size_t Elements(std::initializer_list<int> sizes) {
  size_t product = 1;
  for (const int size : sizes) product *= static_cast<size_t>(size);
  return product;
}

TEST_P(Wkv7GradientCudaTest, MatchesTheCpu) {
  const Wkv7TrainingShape shape = GetParam();
  const size_t rows = Elements({shape.batch, shape.tokens, shape.heads, shape.head_size});
  const size_t states = Elements({shape.batch, shape.heads, shape.head_size, shape.head_size});
  Misaligned r = RandomNormal(rows, 1), w_raw = RandomNormal(rows, 2, 2.0f),
             k = RandomNormal(rows, 3), v = RandomNormal(rows, 4), a = RandomNormal(rows, 5),
             b(rows), dy = RandomNormal(rows, 6), initial = RandomNormal(states, 7),
             d_final = RandomNormal(states, 8);
  const Misaligned rate = RandomUniform(rows, 9, 0.0f, 1.0f);
  for (size_t at = 0; at < rows; at += shape.head_size) {
    double squares = 0.0;
    for (int i = 0; i < shape.head_size; ++i) squares += a[at + i] * a[at + i];
    for (int i = 0; i < shape.head_size; ++i) {
      a[at + i] /= static_cast<float>(std::sqrt(squares));
      b[at + i] = -a[at + i] * rate[at + i];
    }
  }
  const DeviceArray dr_(r), dw_(w_raw), dk_(k), dv_(v), da_(a), db_(b), ddy(dy), d0(initial),
      dT(d_final);
  for (const bool from_state : {false, true}) {
    SCOPED_TRACE(from_state ? "from a state" : "from zero");
    Misaligned y(rows), final_state(states), kept_states(Wkv7KeptStateFloats(shape)), sa(rows),
        g_r(rows), g_w(rows), g_k(rows), g_v(rows), g_a(rows), g_b(rows), g_0(states);
    ThreadPool pool(2);
    const Wkv7TrainingInputs host = {r.data(),
                                     w_raw.data(),
                                     k.data(),
                                     v.data(),
                                     a.data(),
                                     b.data(),
                                     from_state ? initial.data() : nullptr};
    const Wkv7Kept host_kept = {kept_states.data(), sa.data()};
    Wkv7TrainingForward(shape, host, y.data(), final_state.data(), &host_kept, pool);
    Wkv7TrainingBackward(
        shape, host, host_kept, dy.data(), from_state ? d_final.data() : nullptr,
        {g_r.data(), g_w.data(), g_k.data(), g_v.data(), g_a.data(), g_b.data(), g_0.data()}, pool);

    const DeviceArray out_y(rows), out_final(states), out_kept(kept_states.size()), out_sa(rows),
        out_r(rows), out_w(rows), out_k(rows), out_v(rows), out_a(rows), out_b(rows), out_0(states);
    const Wkv7TrainingInputs device = {dr_.get(),
                                       dw_.get(),
                                       dk_.get(),
                                       dv_.get(),
                                       da_.get(),
                                       db_.get(),
                                       from_state ? d0.get() : nullptr};
    const Wkv7Kept kept = {out_kept.get(), out_sa.get()};
    ASSERT_EQ(Wkv7TrainingForwardCuda(shape, device, out_y.get(), out_final.get(), &kept, nullptr),
              0);
    ASSERT_EQ(
        Wkv7TrainingBackwardCuda(shape, device, kept, ddy.get(), from_state ? dT.get() : nullptr,
                                 {out_r.get(), out_w.get(), out_k.get(), out_v.get(), out_a.get(),
                                  out_b.get(), out_0.get()},
                                 nullptr),
        0);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_LT(Error(out_y.Host(), y), 1e-5);
    EXPECT_LT(Error(out_final.Host(), final_state), 1e-5);
    // The backward pass divides decays out again: see the header.
    EXPECT_LT(Error(out_r.Host(), g_r), 1e-3);
    EXPECT_LT(Error(out_w.Host(), g_w), 1e-3);
    EXPECT_LT(Error(out_k.Host(), g_k), 1e-5);
    EXPECT_LT(Error(out_v.Host(), g_v), 1e-5);
    EXPECT_LT(Error(out_a.Host(), g_a), 1e-3);
    EXPECT_LT(Error(out_b.Host(), g_b), 1e-5);
    EXPECT_LT(Error(out_0.Host(), g_0), 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Wkv7GradientCudaTest,
                         testing::Values(Wkv7TrainingShape{2, 64, 2, 64},
                                         Wkv7TrainingShape{3, 37, 2, 64},
                                         Wkv7TrainingShape{1, 1, 1, 32},
                                         Wkv7TrainingShape{2, 33, 3, 32},
                                         Wkv7TrainingShape{2, 20, 2, 16}));

TEST(Wkv7GradientCuda, RefusesAHeadSizeThatIsNotBuilt) {
  EXPECT_EQ(Wkv7TrainingForwardCuda({1, 1, 1, 48}, {}, nullptr, nullptr, nullptr, nullptr),
            kWkv7CudaHeadSize);
}

}  // namespace
}  // namespace dreamstate::kernels
