// The objects of Json: the keys stay in the order in which they came, and each is found in constant
// time. nlohmann's ordered_map goes through all keys at every search and every insertion, so that
// an object of n keys costs n * n.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

namespace lewis {

// A hash that differs from process to process, so that no file can hold keys that all collide.
uint64_t json_key_hash(std::string_view key);

// An object of few keys is searched from the front. A larger one has an open hash table with the
// places of its keys beside it, which is kept current by everything that changes the object, so
// that several threads may search one object that none changes.
template <class Key, class T, class Less, class Allocator>
class JsonMap : public nlohmann::ordered_map<Key, T, Less, Allocator> {
  using Base = nlohmann::ordered_map<Key, T, Less, Allocator>;

 public:
  using typename Base::const_iterator;
  using typename Base::Container;
  using typename Base::iterator;
  using typename Base::key_type;
  using typename Base::size_type;
  using typename Base::value_type;

  JsonMap() noexcept(noexcept(Base())) = default;
  explicit JsonMap(const Allocator& allocator) : Base(allocator) {}
  template <class It>
  JsonMap(It first, It last, const Allocator& allocator = Allocator())
      : Base(first, last, allocator) {
    index_all();
  }
  JsonMap(std::initializer_list<value_type> values, const Allocator& allocator = Allocator())
      : Base(values, allocator) {
    index_all();
  }

  iterator find(std::string_view key) { return this->begin() + distance_to(key); }
  const_iterator find(std::string_view key) const { return this->begin() + distance_to(key); }
  size_type count(std::string_view key) const { return find(key) == this->end() ? 0 : 1; }

  T& at(std::string_view key) {
    const auto it = find(key);
    if (it == this->end()) throw std::out_of_range("key not found");
    return it->second;
  }
  const T& at(std::string_view key) const {
    const auto it = find(key);
    if (it == this->end()) throw std::out_of_range("key not found");
    return it->second;
  }

  template <class KeyType>
  std::pair<iterator, bool> emplace(KeyType&& key, T&& value) {
    if (const auto it = find(key); it != this->end()) return {it, false};
    Container::emplace_back(std::forward<KeyType>(key), std::move(value));
    index_last();
    return {std::prev(this->end()), true};
  }
  template <class KeyType>
  T& operator[](KeyType&& key) {
    return emplace(std::forward<KeyType>(key), T{}).first->second;
  }
  template <class KeyType>
  const T& operator[](KeyType&& key) const {
    return at(key);
  }

  std::pair<iterator, bool> insert(value_type&& value) {
    return emplace(value.first, std::move(value.second));
  }
  std::pair<iterator, bool> insert(const value_type& value) {
    return emplace(value.first, T(value.second));
  }
  template <class It, class = typename std::iterator_traits<It>::iterator_category>
  void insert(It first, It last) {
    for (; first != last; ++first) insert(*first);
  }

  size_type erase(std::string_view key) {
    const auto it = find(key);
    if (it == this->end()) return 0;
    erase(it);
    return 1;
  }
  iterator erase(iterator place) { return erase(place, std::next(place)); }
  iterator erase(iterator first, iterator last) {
    const auto next = Base::erase(first, last);
    index_all();
    return next;
  }
  void clear() {
    Base::clear();
    slots_.clear();
  }

 private:
  static constexpr size_t kFew = 16;

  // The slot that holds the key's place, or the empty one where it would be put.
  size_t slot_of(std::string_view key) const {
    const size_t mask = slots_.size() - 1;
    size_t slot = json_key_hash(key) & mask;
    while (slots_[slot] != 0 && Container::operator[](slots_[slot] - 1).first != key)
      slot = (slot + 1) & mask;
    return slot;
  }

  // The key's place; size() if it is not there.
  std::ptrdiff_t distance_to(std::string_view key) const {
    size_t place = 0;
    if (slots_.empty()) {
      while (place < this->size() && Container::operator[](place).first != key) ++place;
    } else {
      const uint32_t found = slots_[slot_of(key)];
      place = found == 0 ? this->size() : found - 1;
    }
    return static_cast<std::ptrdiff_t>(place);
  }

  void index_last() {
    if (this->size() <= kFew) return;
    if (this->size() * 2 > slots_.size()) return index_all();
    slots_[slot_of(this->back().first)] = static_cast<uint32_t>(this->size());
  }

  void index_all() {
    slots_.clear();
    if (this->size() <= kFew) return;
    size_t slots = 4 * kFew;
    while (slots < this->size() * 3) slots *= 2;
    slots_.resize(slots);
    for (size_t place = 0; place < this->size(); ++place) {
      uint32_t& slot = slots_[slot_of(Container::operator[](place).first)];
      if (slot == 0) slot = static_cast<uint32_t>(place + 1);
    }
  }

  std::vector<uint32_t> slots_;  // place + 1 of a key, 0: empty; a power of two; none: few keys
};

}  // namespace lewis
