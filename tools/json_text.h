// JSON that is written as it is made, for documents whose lists are too long to be built as a whole.
// Must not: write a name that is not quoted here.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tools/text_table.h"

namespace tidemark {

// A name as a JSON string: plain text (Printable) in quotation marks.
inline std::string JsonName(std::string_view name) { return nlohmann::json(Printable(name)).dump(); }

// "[1,2,3]"; `text_of` makes the text of one element.
template <typename List, typename TextOf>
std::string JsonList(const List& list, TextOf text_of) {
  std::string text = "[";
  for (const auto& element : list) {
    if (text.size() > 1) text += ',';
    text += text_of(element);
  }
  return text + ']';
}

template <typename Number>
std::string JsonNumbers(const std::vector<Number>& numbers) {
  return JsonList(numbers, [](Number number) { return std::to_string(number); });
}

}  // namespace tidemark
