// examples/gpt/say.h: one line, whole, at once: other ranks and other processes write too.
#pragma once

#include <iostream>
#include <sstream>

template <class... A>
void say(const A&... parts) {
  std::ostringstream line;
  (line << ... << parts) << '\n';
  std::cout << line.str() << std::flush;
}
