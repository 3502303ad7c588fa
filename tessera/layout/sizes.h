// tessera/layout/sizes.h: as many numbers as a tensor has dimensions: sizes, offsets, strides. What std::vector<int64_t> is, and up to
// four of them stand in the object itself: a plan of two million boxes then makes no allocation a box.
// Errors      std::length_error for more than 2^31 numbers; at() throws std::out_of_range.
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

namespace tessera {

class Sizes {
 public:
  using value_type = int64_t;
  using size_type = size_t;
  using difference_type = std::ptrdiff_t;
  using reference = int64_t&;
  using const_reference = const int64_t&;
  using pointer = int64_t*;
  using const_pointer = const int64_t*;
  using iterator = int64_t*;
  using const_iterator = const int64_t*;
  using reverse_iterator = std::reverse_iterator<iterator>;
  using const_reverse_iterator = std::reverse_iterator<const_iterator>;

  static constexpr size_t inline_capacity = 4;  // a convolution's weight; what has more dimensions is rare and on the heap

  Sizes() = default;
  explicit Sizes(size_t count, int64_t value = 0) { resize(count, value); }
  Sizes(std::initializer_list<int64_t> values) : Sizes(values.begin(), values.end()) {}
  template <class Iterator, class = typename std::iterator_traits<Iterator>::iterator_category>
  Sizes(Iterator first, Iterator last) {
    if constexpr (std::forward_iterator<Iterator>) make_room(static_cast<size_t>(std::distance(first, last)));
    for (; first != last; ++first) push_back(*first);
  }
  Sizes(const std::vector<int64_t>& values) : Sizes(values.begin(), values.end()) {}  // as LibTorch hands them out
  Sizes(const Sizes& other) : here_(other.here_) {
    if (other.is_inline()) size_ = other.size_;
    else copy_from_heap(other);
  }
  Sizes(Sizes&& other) noexcept { swap(other); }
  Sizes& operator=(const Sizes& other) {
    if (is_inline() && other.is_inline()) {
      here_ = other.here_;
      size_ = other.size_;
    } else if (this != &other) {
      Sizes(other).swap(*this);
    }
    return *this;
  }
  Sizes& operator=(Sizes&& other) noexcept {
    Sizes(std::move(other)).swap(*this);
    return *this;
  }
  ~Sizes() {
    if (!is_inline()) delete[] here_.heap;
  }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  size_t capacity() const { return capacity_; }
  int64_t* data() { return is_inline() ? here_.numbers : here_.heap; }
  const int64_t* data() const { return is_inline() ? here_.numbers : here_.heap; }

  iterator begin() { return data(); }
  iterator end() { return data() + size_; }
  const_iterator begin() const { return data(); }
  const_iterator end() const { return data() + size_; }
  const_iterator cbegin() const { return begin(); }
  const_iterator cend() const { return end(); }
  reverse_iterator rbegin() { return reverse_iterator(end()); }
  reverse_iterator rend() { return reverse_iterator(begin()); }
  const_reverse_iterator rbegin() const { return const_reverse_iterator(end()); }
  const_reverse_iterator rend() const { return const_reverse_iterator(begin()); }

  int64_t& operator[](size_t i) { return data()[i]; }
  const int64_t& operator[](size_t i) const { return data()[i]; }
  int64_t& at(size_t i) { return i < size_ ? data()[i] : throw std::out_of_range("Sizes::at"); }
  const int64_t& at(size_t i) const { return i < size_ ? data()[i] : throw std::out_of_range("Sizes::at"); }
  int64_t& front() { return data()[0]; }
  const int64_t& front() const { return data()[0]; }
  int64_t& back() { return data()[size_ - 1]; }
  const int64_t& back() const { return data()[size_ - 1]; }

  void reserve(size_t count) { make_room(count); }
  void clear() { size_ = 0; }
  void resize(size_t count, int64_t value = 0) {
    make_room(count);
    if (count > size_) std::fill(end(), data() + count, value);
    size_ = static_cast<uint32_t>(count);
  }
  void push_back(int64_t value) {
    if (size_ == capacity_) make_room(size_t{size_} + 1);
    data()[size_++] = value;
  }
  void pop_back() { --size_; }
  iterator insert(const_iterator before, int64_t value) { return insert(before, &value, &value + 1); }
  // The range is no part of this object.
  template <std::forward_iterator Iterator>
  iterator insert(const_iterator before, Iterator first, Iterator last) {
    const auto at = before - begin();
    const size_t old = size_;
    resize(old + static_cast<size_t>(std::distance(first, last)));
    std::copy_backward(begin() + at, begin() + old, end());
    std::copy(first, last, begin() + at);
    return begin() + at;
  }
  iterator erase(const_iterator at) { return erase(at, at + 1); }
  iterator erase(const_iterator first, const_iterator last) {
    iterator to = begin() + (first - begin());
    std::copy(last, std::as_const(*this).end(), to);
    size_ -= static_cast<uint32_t>(last - first);
    return to;
  }
  void swap(Sizes& other) noexcept {
    std::swap(here_, other.here_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

  friend bool operator==(const Sizes& a, const Sizes& b) { return a.size_ == b.size_ && std::equal(a.begin(), a.end(), b.begin()); }
  friend std::strong_ordering operator<=>(const Sizes& a, const Sizes& b) {
    return std::lexicographical_compare_three_way(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  union Place {
    int64_t numbers[inline_capacity] = {};
    int64_t* heap;
  };

  bool is_inline() const { return capacity_ <= inline_capacity; }
  void copy_from_heap(const Sizes& other) {
    here_ = {};
    make_room(other.size_);
    size_ = other.size_;
    std::copy(other.begin(), other.end(), begin());
  }
  // Makes room for so many numbers in all, and keeps those that are there.
  void make_room(size_t count) {
    if (count <= capacity_) return;
    if (count > size_t{1} << 31) throw std::length_error("Sizes");
    const size_t larger = std::max(count, std::min<size_t>(size_t{capacity_} * 2, size_t{1} << 31));
    auto numbers = std::make_unique<int64_t[]>(larger);
    std::copy(begin(), end(), numbers.get());
    if (!is_inline()) delete[] here_.heap;
    here_.heap = numbers.release();
    capacity_ = static_cast<uint32_t>(larger);
  }

  Place here_;
  uint32_t size_ = 0;
  uint32_t capacity_ = inline_capacity;
};

}  // namespace tessera
