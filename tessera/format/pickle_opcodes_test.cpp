// Every opcode, every way to break one, and the limits.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>

#include "tessera/format/pickle.h"
#include "tessera/format/pickle_writer.h"
#include "tessera/format/python_long.h"

namespace tessera::format {
namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;
using Kind = Node::Kind;

// A pickle, and the bytes that it was read from.
struct Parsed {
  explicit Parsed(std::string text, const PickleLimits& limits = {}) : bytes(std::move(text)), pickle(as_bytes(bytes), limits, "file") {}
  std::string bytes;
  Pickle pickle;
  const Node& root() const { return pickle.root(); }
};

// The failure of reading it.
Fault fault_of_reading(std::string text, const PickleLimits& limits = {}) {
  try {
    const Parsed parsed(std::move(text), limits);
  } catch (const Error& error) {
    EXPECT_EQ(error.fault().file, "file");
    return error.fault();
  }
  ADD_FAILURE() << "was read";
  return {};
}

std::string shown(const Node& node);

template <class Items>
std::string shown(const Items& items, size_t begin = 0) {
  std::string text;
  for (size_t i = begin; i < items.size(); ++i) text += (i == begin ? "" : " ") + shown(*items[i]);
  return text;
}

// A node as text: "[1 'a' (None)]".
std::string shown(const Node& node) {
  switch (node.kind) {
    case Kind::none: return "None";
    case Kind::boolean: return node.boolean() ? "True" : "False";
    case Kind::integer: return std::to_string(node.integer());
    case Kind::big_integer: return std::string(node.text()) + "L";
    case Kind::real: return std::to_string(node.real());
    case Kind::text: return "'" + std::string(node.text()) + "'";
    case Kind::bytes: return "b'" + std::string(node.text()) + "'";
    case Kind::tuple: return "(" + shown(node.items()) + ")";
    case Kind::list: return "[" + shown(node.items()) + "]";
    case Kind::dict: return "{" + shown(node.items()) + "}";
    case Kind::global: return "<" + node.global() + ">";
    case Kind::call:
      return "call(" + shown(node.callee()) + " (" + shown(node.items()) + ")" + (node.set().empty() ? "" : " set " + shown(node.set())) +
             (node.state() ? " state " + shown(*node.state()) : "") + (node.altered() ? " altered" : "") + ")";
    case Kind::object:
      return "object(" + shown(node.callee()) + " (" + shown(node.items()) + ")" + (node.state() ? " state " + shown(*node.state()) : "") +
             (node.altered() ? " altered" : "") + ")";
    case Kind::persistent: return "persistent(" + shown(node.items()) + ")";
  }
  return "?";
}

std::string read(std::string text, const PickleLimits& limits = {}) { return shown(Parsed(std::move(text), limits).root()); }

TEST(Pickle, ReadsTheValuesOfEveryOpcode) {
  EXPECT_EQ(read("N."), "None");
  EXPECT_EQ(read("\x80\x02\x88."), "True");
  EXPECT_EQ(read("\x80\x05\x89."), "False");
  EXPECT_EQ(read("K\xff."), "255");
  EXPECT_EQ(read("M\xff\xff."), "65535");
  EXPECT_EQ(read("J\xfe\xff\xff\xff."), "-2");
  EXPECT_EQ(read("\x8a\x00."s), "0");
  EXPECT_EQ(read("\x8a\x01\xff."), "-1");
  EXPECT_EQ(read("\x8a\x05\x00\x00\x00\x00\x01."s), "4294967296");
  EXPECT_EQ(read("\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80."s), "-9223372036854775808");
  EXPECT_EQ(read("\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00."s), "9223372036854775808L");
  EXPECT_EQ(read("\x8a\x09\x05\x00\x00\x00\x00\x00\x00\x00\x00."s), "5") << "bytes that only repeat the sign";
  EXPECT_EQ(read("\x8b\x01\x00\x00\x00\x07."s), "7");
  EXPECT_EQ(read("G\x40\x04\x00\x00\x00\x00\x00\x00."s), "2.500000");
  EXPECT_EQ(read("X\x02\x00\x00\x00"
                 "ab."s),
            "'ab'");
  EXPECT_EQ(read("\x8c\x02"
                 "ab."),
            "'ab'");
  EXPECT_EQ(read("C\x02\xff\xfe."), "b'\xff\xfe'");
  EXPECT_EQ(read("B\x01\x00\x00\x00z."s), "b'z'");
  EXPECT_EQ(read(")."), "()");
  EXPECT_EQ(read("K\x01\x85."), "(1)");
  EXPECT_EQ(read("K\x01K\x02\x86."), "(1 2)");
  EXPECT_EQ(read("K\x01K\x02K\x03\x87."), "(1 2 3)");
  EXPECT_EQ(read("(K\x01K\x02K\x03K\x04t."), "(1 2 3 4)");
  EXPECT_EQ(read("]K\x01"
                 "aK\x02"
                 "a(K\x03K\x04"
                 "e(e."),
            "[1 2 3 4]");
  EXPECT_EQ(read("}K\x01K\x02s(K\x03K\x04K\x05K\x06u."), "{1 2 3 4 5 6}");
  EXPECT_EQ(read("ca.b\nC\n."), "<a.b C>");
  EXPECT_EQ(read("\x8c\x03"
                 "a.b\x8c\x03"
                 "C.D\x93."),
            "<a.b C.D>");
  EXPECT_EQ(read("ca\nf\nK\x01\x85R."), "call(<a f> (1))");
  EXPECT_EQ(read("ca\nf\n)R(K\x01Nu."), "call(<a f> () set 1 None)");
  EXPECT_EQ(read("ca\nC\n)\x81}\x62."), "object(<a C> () state {})");
  EXPECT_EQ(read("K\x07Q.", {.persistent_ids = true}), "persistent(7)");
  EXPECT_EQ(read("\x95\x02\x00\x00\x00\x00\x00\x00\x00N."s), "None");
}

TEST(Pickle, TellsWhatElseWasDoneToAnObject) {
  EXPECT_EQ(read("ca\nf\n)R}b."), "call(<a f> () state {})") << "as numpy's arrays are made";
  EXPECT_EQ(read("ca\nf\n)RK\x01"
                 "a."),
            "call(<a f> () altered)")
      << "as a deque is";
  EXPECT_EQ(read("ca\nC\n)\x81K\x01Ns."), "object(<a C> () altered)") << "as a subclass of dict is";
  EXPECT_EQ(read("ca\nC\n)\x81}bNb."), "object(<a C> () state {} altered)");
  EXPECT_EQ(read("ca\nf\n)R)R."), "call(call(<a f> ()) ())") << "a bound method called";
}

TEST(Pickle, KeepsArgumentsStateAndItemsApart) {
  const std::string f = "ca\nf\n";
  EXPECT_EQ(read(f + "(K\x01K\x02K\x03K\x04tR}b."), "call(<a f> (1 2 3 4) state {})");
  EXPECT_EQ(read(f + "K\x01K\x02\x86R(K\x05NuNb(K\x06Nu."), "call(<a f> (1 2) set 5 None 6 None state None)");
  EXPECT_EQ(read(f + "K\x01K\x02K\x03\x87RNb(K\x05Nu(K\x06Nu."), "call(<a f> (1 2 3) set 5 None 6 None state None)");
  EXPECT_EQ(read(f + ")R(K\x05Nu}b."), "call(<a f> () set 5 None state {})") << "as an OrderedDict with attributes";
  // What the memo knows stays a tuple when a call is made of it.
  const std::string memoized = f + "K\x01K\x02\x86q\x00Rh\x00\x86."s;
  EXPECT_EQ(read(memoized), "(call(<a f> (1 2)) (1 2))");
  EXPECT_EQ(read(f + "(K\x01K\x02K\x03t\x94\x81h\x00\x86."s), "(object(<a f> (1 2 3)) (1 2 3))");
}

TEST(Pickle, KeepsBytesThatAreGivenAway) {
  std::vector<Pickle> moved;
  moved.emplace_back(Bytes(as_bytes("\x8c\x05hello."sv).begin(), as_bytes("\x8c\x05hello."sv).end()));
  moved.reserve(moved.capacity() + 1);
  EXPECT_EQ(shown(moved.front().root()), "'hello'");
}

// Two names of a megabyte each, and five bytes for each global that is made of them.
TEST(Pickle, AGlobalCopiesNoNames) {
  const std::string name(1 << 20, 'x');
  std::string many = "X\x00\x00\x10\x00"s + name + "q\x00("s;
  for (int i = 0; i < 50'000; ++i) many += "h\x00h\x00\x93"s;
  EXPECT_EQ(fault_of_reading(many + "t\x86.").code, Code::limit) << "and not for want of 100 GB";
}

TEST(Pickle, SharesWhatTheMemoShares) {
  const Parsed parsed("K\x01\x85q\x07h\x07h\x07\x87.");
  const auto items = parsed.root().items();
  ASSERT_EQ(items.size(), 3u);
  EXPECT_EQ(items[0], items[1]);
  EXPECT_EQ(items[1], items[2]);
  // What is done to a list later is seen wherever it is.
  EXPECT_EQ(read("]q\x00h\x00K\x01"
                 "a\x86."s),
            "([1] [1])");
}

TEST(Pickle, TheMemoCountsAsPythonDoes) {
  EXPECT_EQ(read("K\x01\x94K\x02\x94\x86h\x00h\x01\x86\x86."s), "((1 2) (1 2))");
  // MEMOIZE takes the number of slots in use, even where that slot is taken.
  EXPECT_EQ(read("K\x01q\x01K\x02\x94h\x01\x87."), "(1 2 2)");
  const Parsed large("K\x07r\x2c\x01\x00\x00j\x2c\x01\x00\x00\x86."s);
  EXPECT_EQ(shown(large.root()), "(7 7)");
}

TEST(Pickle, OurMarkerIsReadAndDropped) {
  const Parsed parsed("\x80\x02X\x09\x00\x00\x00tessera/00N."s);
  EXPECT_EQ(parsed.pickle.marker(), "tessera/0");
  EXPECT_EQ(shown(parsed.root()), "None");
  EXPECT_EQ(Parsed("\x80\x02X\x01\x00\x00\x00"
                   "a."s)
                .pickle.marker(),
            "")
      << "a string that is the value";
}

TEST(Pickle, RefusesWhatNoPicklerWrites) {
  struct Case {
    const char* why;
    std::string pickle;
    Code code = Code::corrupt;
  };
  const std::vector<Case> cases = {
      {"nothing", ""},
      {"no STOP", "N"},
      {"only STOP", "."},
      {"two objects", "NN."},
      {"bytes after STOP", "N.N"},
      {"a mark left over", "(N."},
      {"no mark", "Nt."},
      {"APPENDS without a mark", "]e."},
      {"a pop through the mark", "N(\x85t."},
      {"an append to what is below the mark",
       "](K\x01"
       "at."},
      {"TUPLE3 of two", "NN\x87."},
      {"REDUCE on nothing", "R."},
      {"REDUCE without arguments", "ca\nf\nR."},
      {"REDUCE with a list", "ca\nf\n]R."},
      {"REDUCE of an int", "K\x01)R."},
      {"NEWOBJ of a string", "X\x00\x00\x00\x00)\x81."s},
      {"BUILD of a list", "]}b."},
      {"BUILD without a state", "}b."},
      {"APPEND to a tuple", ")Na."},
      {"SETITEM to a list", "]NNs."},
      {"a key without a value", "}(Nu."},
      {"an unset memo slot", "h\x00."s},
      {"an unset long memo slot", "j\x00\x00\x00\x01."s},
      {"a memo slot past all reason, unset below", "Nr\xff\xff\xff\x7fh\x05\x86."},
      {"a put of nothing", "q\x00N."s},
      {"a put of a mark", "(q\x00t."s},
      {"STACK_GLOBAL of ints", "K\x01K\x02\x93."},
      {"a global without an end", "ca\nb"},
      {"a string past the end",
       "X\xff\xff\xff\xff"
       "ab."},
      {"a short string past the end",
       "\x8c\x05"
       "ab."},
      {"bytes past the end",
       "B\xff\xff\xff\x7f"
       "ab."},
      {"an integer past the end", "\x8a\xff\x01."},
      {"a float cut short", "G\x40."},
      {"a frame past the end", "\x95\x01."},
      {"a frame longer than the pickle", "\x95\x03\x00\x00\x00\x00\x00\x00\x00N."s},
      {"an opcode across a frame's end", "\x95\x01\x00\x00\x00\x00\x00\x00\x00K\x01."s},
      {"a frame in a frame", "\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x95\x02\x00\x00\x00\x00\x00\x00\x00N."s},
      {"an overlong form", "\x8c\x02\xc0\x80."},
      {"a character past the last", "\x8c\x04\xf4\x90\x80\x80."},
      {"a character cut short", "\x8c\x01\xc3."},
      {"a stray continuation", "\x8c\x01\x80."},
      {"a list in itself",
       "]q\x00h\x00"
       "a."s},
      {"a dict in itself", "}q\x00Nh\x00s."s},
      {"an object in its own state",
       "ca\nC\n)\x81q\x00h\x00\x85"
       "b."s},
      {"an integer of too many digits", "\x8b\x01\x10\x00\x00"s + std::string(4097, 'x') + ".", Code::limit},
      {"protocol 6", "\x80\x06N.", Code::unsupported},
      {"PROTO twice", "\x80\x02\x80\x02N.", Code::unsupported},
      {"INT", "I1\n.", Code::unsupported},
      {"STRING", "S'a'\n.", Code::unsupported},
      {"PERSID", "Pa\n.", Code::unsupported},
      {"BINPERSID where none may be", "K\x01Q.", Code::unsupported},
      {"INST", "(ia\nb\n.", Code::unsupported},
      {"OBJ", "(ca\nb\no.", Code::unsupported},
      {"EXT1", "\x82\x01.", Code::unsupported},
      {"NEWOBJ_EX", "ca\nC\n)}\x92.", Code::unsupported},
      {"DUP", "N2\x86.", Code::unsupported},
      {"BINUNICODE8", "\x8d\x00\x00\x00\x00\x00\x00\x00\x80."s, Code::unsupported},
      {"BYTEARRAY8", "\x96\xff\xff\xff\xff\xff\xff\xff\x7f.", Code::unsupported},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.why);
    EXPECT_EQ(fault_of_reading(c.pickle).code, c.code);
  }
}

TEST(Pickle, AnErrorNamesThePlace) {
  const Fault fault = fault_of_reading(
      "\x80\x02K\x01"
      "2.");
  EXPECT_EQ(fault.offset_bytes, 4);
  try {
    const std::string text = "N";
    const Pickle pickle(as_bytes(text), {}, "file", 1000);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault().offset_bytes, 1001);
  }
}

TEST(Pickle, StringsMayHoldLoneSurrogates) {
  EXPECT_EQ(read("\x8c\x03\xed\xa0\x80."), "'\xed\xa0\x80'");
  EXPECT_EQ(read("\x8c\x04\xf0\x9f\x98\x80."), "'\xf0\x9f\x98\x80'");
}

TEST(Pickle, DepthIsLimited) {
  const auto nested = [](int depth) {
    return std::string(static_cast<size_t>(depth), ']') + std::string(static_cast<size_t>(depth - 1), 'a') + ".";
  };
  EXPECT_NO_THROW(read(nested(100)));
  EXPECT_EQ(fault_of_reading(nested(101)).code, Code::limit);
  EXPECT_EQ(fault_of_reading(nested(1'000'000)).code, Code::limit);
  EXPECT_EQ(fault_of_reading(nested(11), {.depth = 10}).code, Code::limit);
  // A shared part counts from where it is used: 60 levels measured first at the top, then again 60 levels down.
  const std::string deep =
      std::string(60, ']') + std::string(59, 'a') + "q\x01" + std::string(60, ']') + "h\x01" + std::string(60, 'a') + "\x86.";
  EXPECT_EQ(fault_of_reading(deep).code, Code::limit);
}

TEST(Pickle, WhatASmallFileStandsForIsLimited) {
  // Each tuple holds the one before twice: 2^60 values in 240 bytes.
  std::string doubling = "K\x01";
  for (int i = 0; i < 60; ++i) doubling += "q\x01h\x01\x86";
  EXPECT_EQ(fault_of_reading(doubling + ".").code, Code::limit);
  // A long string, many times: few values, much text.
  const std::string text(1 << 20, 'x');
  std::string repeated = "(X\x00\x00\x10\x00"s + text + "q\x01";
  for (int i = 0; i < 1000; ++i) repeated += "h\x01";
  EXPECT_EQ(fault_of_reading(repeated + "t.").code, Code::limit);
  EXPECT_EQ(fault_of_reading("(" + std::string(50, 'N') + "t.", {.nodes = 50}).code, Code::limit);
  EXPECT_NO_THROW(read("(" + std::string(49, 'N') + "t.", {.nodes = 50}));
}

TEST(Pickle, RefusesEveryPrefixAndSurvivesEveryChangedByte) {
  const std::string whole =
      "\x80\x04\x95\x29\x00\x00\x00\x00\x00\x00\x00\x8c\x01"
      "a\x94\x8c\x01"
      "b\x93\x94)\x81\x94}\x94(\x8c\x01"
      "kK\x01h\x01"
      "ca\nf\nK\x02\x85RM\x01\x02\x8a\x02\x01\x02ub."s;
  EXPECT_NO_THROW(read(whole));
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_THROW(read(whole.substr(0, length)), Error) << length;
  }
  int refused = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = whole;
      changed[i] = static_cast<char>(value);
      try {
        read(changed);
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 1000);
}

RC_GTEST_PROP(PickleWriter, TuplesOfIntegersComeBack, (const std::vector<int64_t>& values)) {
  PickleWriter out;
  out.integers(values);
  std::string expected;
  for (const int64_t value : values) expected += (expected.empty() ? "" : " ") + std::to_string(value);
  RC_ASSERT(read(std::string(as_text(out.finish()))) == "(" + expected + ")");
}

RC_GTEST_PROP(PickleWriter, BytesOfAnySizeAreIntegers, (const std::vector<uint8_t>& raw)) {
  const auto bytes = std::as_bytes(std::span(raw));
  const std::string decimal = decimal_of_long(bytes);
  PickleWriter out;
  out.big_integer(decimal);
  const std::string read_back = read(std::string(as_text(out.finish())));
  RC_ASSERT(read_back == decimal || read_back == decimal + "L");
  // The shortest form is stable.
  RC_ASSERT(decimal_of_long(long_of_decimal(decimal)) == decimal);
}

TEST(PickleWriter, BigIntegersAreAsPythonWritesThem) {
  const auto hex = [](const std::string& decimal) {
    std::string text;
    for (const std::byte byte : long_of_decimal(decimal)) {
      constexpr const char* digits = "0123456789abcdef";
      text += {digits[static_cast<int>(byte) >> 4], digits[static_cast<int>(byte) & 15]};
    }
    return text;
  };
  EXPECT_EQ(hex("255"), "ff00");
  EXPECT_EQ(hex("-128"), "80");
  EXPECT_EQ(hex("-129"), "7fff");
  EXPECT_EQ(hex("18446744073709551616"), "000000000000000001");
  EXPECT_EQ(hex("-18446744073709551616"), "0000000000000000ff");
  EXPECT_THROW(long_of_decimal(""), Error);
  EXPECT_THROW(long_of_decimal("-"), Error);
  EXPECT_THROW(long_of_decimal("12x"), Error);
  EXPECT_THROW(long_of_decimal(std::string(9870, '9')), Error) << "could not be read again";
  const std::string longest(9863, '9');
  PickleWriter out;
  out.big_integer(longest);
  EXPECT_EQ(read(std::string(as_text(out.finish()))), longest + "L");
}

TEST(PickleWriter, GlobalsAreWrittenOnceAndThenReferredTo) {
  PickleWriter out;
  out.mark();
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 300; ++i) out.global("module.of name" + std::to_string(i));
  }
  out.tuple();
  const Bytes bytes = out.finish();
  const Parsed parsed{std::string(as_text(bytes))};
  ASSERT_EQ(parsed.root().items().size(), 600u);
  for (size_t i = 0; i < 300; ++i) {
    EXPECT_EQ(shown(*parsed.root().items()[i]), "<module.of name" + std::to_string(i) + ">");
    EXPECT_EQ(parsed.root().items()[i], parsed.root().items()[i + 300]) << "past 255, too";
  }
}

TEST(PickleWriter, RefusesTextThatPythonCouldNotRead) {
  PickleWriter out;
  EXPECT_THROW(out.text("\xff"), Error);
  EXPECT_THROW(out.text("caf\xc3"), Error);
  EXPECT_NO_THROW(out.text("caf\xc3\xa9"));
}

// Ten thousand calls of one tuple of ten thousand: a hundred million pointers out of 80 KB.
TEST(PickleLimits, ATupleThatManyCallsShareIsNotCopiedForEachOfThem) {
  std::string pickle("\x80\x02(", 3);
  for (int i = 0; i < 10'000; ++i) pickle += 'N';
  pickle += "tq";
  pickle += '\0';
  pickle += "ca\nb\nq\x01";
  pickle += '(';
  for (int i = 0; i < 10'000; ++i) {
    pickle += "h\x01h";
    pickle += '\0';
    pickle += 'R';
  }
  pickle += "t.";
  const auto read = capture([&] { const Pickle graph(as_bytes(pickle)); });
  EXPECT_EQ(read.fault.code, Code::limit);
}

}  // namespace
}  // namespace tessera::format
