// tests/support/comm_conformance.h: what every Comm promises, as tests. A room that has one instantiates CommConformance with how it is
// made. To be included by one file of a test program.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tessera/comm/on_every_rank.h"
#include "tests/support/run_as_ranks.h"

namespace tessera {

struct CommKind {
  std::string name;
  std::function<Comms(int ranks, Milliseconds deadline)> make;
};
inline void PrintTo(const CommKind& kind, std::ostream* out) { *out << kind.name; }

inline constexpr Milliseconds patient = std::chrono::seconds(60);
inline constexpr Milliseconds soon = Milliseconds(300);

class CommConformance : public testing::TestWithParam<CommKind> {
 protected:
  Comms ranks(int n, Milliseconds deadline = patient) { return GetParam().make(n, deadline); }
};

TEST_P(CommConformance, EveryRankGetsEveryMessageInRankOrderRoundAfterRound) {
  for (const int n : {1, 2, 7}) {
    Comms comms = ranks(n);
    const auto outcomes = run_as_ranks(comms, [&](Comm& comm) {
      EXPECT_EQ(comm.size(), n);
      for (int k = 0; k < 50; ++k) {
        const auto all =
            texts_of(all_gather(comm, "round " + std::to_string(k), bytes_from(std::to_string(comm.rank()) + "/" + std::to_string(k))));
        EXPECT_EQ(all.size(), static_cast<size_t>(n));
        for (size_t r = 0; r < all.size(); ++r) EXPECT_EQ(all[r], std::to_string(r) + "/" + std::to_string(k));
      }
    });
    for (const auto& outcome : outcomes) EXPECT_TRUE(outcome) << describe(outcome.fault);
  }
}

TEST_P(CommConformance, TheLeaderAnswersEachRankForItself) {
  Comms comms = ranks(3);
  const auto outcomes = run_as_ranks(comms, [](Comm& comm) {
    return comm.round("ask", bytes_from("from " + std::to_string(comm.rank())), [](std::vector<Bytes> all) {
      std::vector<Bytes> answers;
      for (const std::string& text : texts_of(all)) answers.push_back(bytes_from("to whoever wrote " + text));
      return answers;
    });
  });
  for (size_t r = 0; r < outcomes.size(); ++r) EXPECT_EQ(as_text(outcomes[r].value.value()), "to whoever wrote from " + std::to_string(r));
}

TEST_P(CommConformance, ABroadcastIsTheLeadersAndABarrierWaitsForAll) {
  Comms comms = ranks(4);
  std::atomic<int> reached = 0;
  const auto outcomes = run_as_ranks(comms, [&](Comm& comm) {
    const Bytes got = broadcast(comm, "which step", bytes_from(comm.rank() == 0 ? "42" : "not mine to say"));
    ++reached;
    barrier(comm, "all know");
    EXPECT_EQ(reached, 4);
    return got;
  });
  for (const auto& outcome : outcomes) EXPECT_EQ(as_text(outcome.value.value()), "42");
}

TEST_P(CommConformance, LargeMessagesArriveWhole) {
  Comms comms = ranks(3);
  constexpr size_t large = size_t{32} << 20;
  // Repeats with an odd period, so that a part in a wrong place shows.
  const auto pattern = [](int rank) {
    Bytes bytes(large + static_cast<size_t>(rank));
    constexpr size_t period = 100'003;
    for (size_t i = 0; i < period; ++i) bytes[i] = static_cast<std::byte>((i * 2654435761U + static_cast<size_t>(rank)) >> 13);
    for (size_t i = period; i < bytes.size(); i += period) std::memcpy(&bytes[i], &bytes[0], std::min(period, bytes.size() - i));
    return bytes;
  };
  // Each rank's bytes go up, and the bytes of its neighbour come back.
  const auto outcomes = run_as_ranks(comms, [&](Comm& comm) {
    const Bytes got = comm.round("exchange", pattern(comm.rank()), [](std::vector<Bytes> all) {
      std::rotate(all.begin(), all.begin() + 1, all.end());
      return all;
    });
    return got == pattern((comm.rank() + 1) % 3);
  });
  for (const auto& outcome : outcomes) EXPECT_TRUE(outcome.value.value_or(false)) << describe(outcome.fault);
}

TEST_P(CommConformance, RanksThatTookDifferentWaysAllLearnSo) {
  Comms comms = ranks(3);
  const auto outcomes = run_as_ranks(comms, [](Comm& comm) { barrier(comm, comm.rank() == 2 ? "load" : "save"); });
  for (const auto& outcome : outcomes) {
    EXPECT_EQ(outcome.fault.code, Code::internal);
    EXPECT_THAT(outcome.fault.what, testing::AllOf(testing::HasSubstr("'load'"), testing::HasSubstr("'save'")));
  }
}

TEST_P(CommConformance, WhatTheLeaderThrowsEveryRankThrowsAndTheNextRoundIsFine) {
  Comms comms = ranks(3);
  const Fault full{
      .code = Code::no_space, .what = "disk full", .file = "__0_0.distcp", .offset_bytes = 4096, .os_errno = 28, .hint = "make room"};
  const auto outcomes = run_as_ranks(comms, [&](Comm& comm) {
    const auto refused =
        capture([&] { return comm.round("publish", {}, [&](std::vector<Bytes>) -> std::vector<Bytes> { throw Error(full); }); });
    EXPECT_FALSE(refused);
    EXPECT_EQ(refused.fault, full);
    return all_gather(comm, "go on", bytes_from("well")).size();
  });
  for (const auto& outcome : outcomes) EXPECT_EQ(outcome.value.value_or(0), 3U) << describe(outcome.fault);
}

TEST_P(CommConformance, AFailureOfOneRanksWorkIsEveryRanksAndTheJobGoesOn) {
  Comms comms = ranks(4);
  const auto outcomes = run_as_ranks(comms, [](Comm& comm) {
    const auto failed = capture([&] {
      on_every_rank(comm, Phase::write, [&] {
        if (comm.rank() == 2) throw Error({.code = Code::io, .what = "the disk broke"});
      });
    });
    EXPECT_EQ(failed.fault, (Fault{.code = Code::io, .what = "the disk broke", .rank = 2, .phase = Phase::write}));
    return on_every_rank_bytes(comm, Phase::read, [] { return bytes_from("well"); }).size();
  });
  for (const auto& outcome : outcomes) EXPECT_EQ(outcome.value.value_or(0), 4U) << describe(outcome.fault);
}

TEST_P(CommConformance, AbortEndsTheWaitOfEveryRankAndLastsForEver) {
  for (const size_t who : {size_t{0}, size_t{2}}) {
    Comms comms = ranks(3);
    const Fault fault{.code = Code::aborted, .what = "rank " + std::to_string(who) + " failed: no memory"};
    const auto outcomes = run_as_ranks(comms, [&](Comm& comm) {
      if (comm.rank() == static_cast<int>(who)) comm.abort(fault);
      const auto first = capture([&] { barrier(comm, "save"); });
      const auto second = capture([&] { barrier(comm, "save again"); });
      EXPECT_EQ(first.fault, fault);
      EXPECT_EQ(second.fault, fault);
    });
    for (const auto& outcome : outcomes) EXPECT_TRUE(outcome) << describe(outcome.fault);
  }
}

TEST_P(CommConformance, ARankThatLeftIsNamedToThoseThatNeedIt) {
  for (const size_t who : {size_t{0}, size_t{2}}) {
    Comms comms = ranks(4);
    const auto outcomes = run_as_ranks(comms, [&](Comm& comm) {
      barrier(comm, "together");
      if (comm.rank() == static_cast<int>(who)) {
        comm.note("falling over");
        comms[who].reset();
      } else {
        barrier(comm, "without one");
      }
    });
    for (size_t r = 0; r < outcomes.size(); ++r) {
      if (r == who) continue;
      EXPECT_EQ(outcomes[r].fault.code, Code::peer_lost);
      EXPECT_THAT(outcomes[r].fault.what, testing::HasSubstr("rank " + std::to_string(who)));
    }
  }
}

TEST_P(CommConformance, RanksMayLeaveInAnyOrderOnceNobodyNeedsThem) {
  for (int k = 0; k < 20; ++k) {
    Comms comms = ranks(4);
    const auto outcomes = run_as_ranks(comms, [&](Comm& comm) {
      const auto r = static_cast<size_t>(comm.rank());
      barrier(comm, "the last one");
      comms[r].reset();
    });
    for (const auto& outcome : outcomes) EXPECT_TRUE(outcome) << describe(outcome.fault);
  }
}

TEST_P(CommConformance, TheDeadlineNamesWhoIsMissingAndWhatItWasDoing) {
  for (const int who : {0, 2}) {
    Comms comms = ranks(4, soon);
    std::atomic<int> others = 0;
    const auto outcomes = run_as_ranks(comms, [&](Comm& comm) {
      if (comm.rank() != who) {
        auto late = capture([&] { barrier(comm, "gather proofs"); });
        if (++others == 3) others.notify_all();
        return std::move(late).or_throw();
      }
      comm.note("write __7_0.distcp", 512 << 20, 1 << 30);
      for (int seen = others; seen != 3; seen = others) others.wait(seen);
      barrier(comm, "gather proofs");  // too late
      return Done{};
    });
    for (const auto& outcome : outcomes) {
      EXPECT_EQ(outcome.fault.code, Code::timeout);
      EXPECT_THAT(outcome.fault.what, testing::AllOf(testing::HasSubstr("'gather proofs'"),
                                                     testing::HasSubstr("rank " + std::to_string(who) +
                                                                        " was last seen at: write __7_0.distcp, 512.0 MiB of 1.0 GiB")));
    }
  }
}

TEST_P(CommConformance, ARankThatSaysWhatItDoesIsWaitedForBeyondTheDeadline) {
  for (const int who : {0, 1}) {
    Comms comms = ranks(3, std::chrono::seconds(2));
    const auto outcomes = run_as_ranks(comms, [&](Comm& comm) {
      for (int k = 0; comm.rank() == who && k < 50; ++k) {
        comm.note("write, block " + std::to_string(k));
        std::this_thread::sleep_for(Milliseconds(50));
      }
      barrier(comm, "gather proofs");
    });
    for (const auto& outcome : outcomes) EXPECT_TRUE(outcome) << describe(outcome.fault);
  }
}

// Runs `background` in a thread of its own, on a further line, while `body` runs on the Comm itself; returns what came of each.
template <class Background, class Body>
std::pair<Outcome<Done>, Outcome<Done>> on_two_lines(Comm& comm, Background background, Body body) {
  std::pair<Outcome<Done>, Outcome<Done>> outcomes;
  std::unique_ptr<Comm> line = comm.line();
  std::thread thread([&] { outcomes.second = capture([&] { background(line); }); });
  outcomes.first = capture([&] { body(comm); });
  thread.join();
  return outcomes;
}

TEST_P(CommConformance, TwoLinesWorkAtOnceEachInAnOrderOfItsOwn) {
  Comms comms = ranks(3);
  const auto rounds = [](Comm& comm, const std::string& name, int count) {
    for (int k = 0; k < count; ++k) {
      const std::string word = name + std::to_string(k) + "/";
      comm.note(word);
      const auto all = texts_of(all_gather(comm, word, bytes_from(word + std::to_string(comm.rank()))));
      EXPECT_EQ(all, (std::vector<std::string>{word + "0", word + "1", word + "2"}));
    }
  };
  const auto outcomes = run_as_ranks(comms, [&](Comm& comm) {
    for (int k = 0; k < 3; ++k) {
      const auto [front, back] = on_two_lines(
          comm, [&](std::unique_ptr<Comm>& line) { rounds(*line, "save ", 150); }, [&](Comm& main) { rounds(main, "train ", 200); });
      EXPECT_TRUE(front) << describe(front.fault);
      EXPECT_TRUE(back) << describe(back.fault);
    }
  });
  for (const auto& outcome : outcomes) EXPECT_TRUE(outcome) << describe(outcome.fault);
}

TEST_P(CommConformance, LargeMessagesOnTwoLinesDoNotMix) {
  Comms comms = ranks(2);
  constexpr size_t large = size_t{5} << 20;
  const auto exchange = [](Comm& comm, int mark) {
    for (int k = 0; k < 4; ++k) {
      const auto all = all_gather(comm, "large", Bytes(large, static_cast<std::byte>(mark + comm.rank())));
      for (int r = 0; r < 2; ++r) {
        EXPECT_EQ(all[static_cast<size_t>(r)], Bytes(large, static_cast<std::byte>(mark + r)));
      }
    }
  };
  run_as_ranks(comms, [&](Comm& comm) {
    const auto [front, back] =
        on_two_lines(comm, [&](std::unique_ptr<Comm>& line) { exchange(*line, 10); }, [&](Comm& main) { exchange(main, 20); });
    EXPECT_TRUE(front && back) << describe(front.fault) << describe(back.fault);
  });
}

TEST_P(CommConformance, ABarrierOnOneLineIsNotMetOnAnother) {
  Comms comms = ranks(2);
  std::atomic<bool> met = false;
  run_as_ranks(comms, [&](Comm& comm) {
    const auto line = comm.line();
    if (comm.rank() == 0) {
      barrier(comm, "same name");
      EXPECT_TRUE(met);
      barrier(*line, "same name");
      return;
    }
    std::thread back([&] { barrier(*line, "same name"); });  // this rank is on the other line first
    for (int k = 0; k < 20; ++k) line->note("waiting");
    met = true;
    barrier(comm, "same name");
    back.join();
  });
}

TEST_P(CommConformance, AnAbortOnOneLineBreaksAll) {
  for (const int who : {0, 2}) {
    Comms comms = ranks(3);
    const Fault fault{.code = Code::aborted, .what = "rank " + std::to_string(who) + " failed: no memory"};
    run_as_ranks(comms, [&](Comm& comm) {
      const auto [front, back] = on_two_lines(
          comm,
          [&](std::unique_ptr<Comm>& line) {
            barrier(*line, "all are here");
            if (line->rank() == who) line->abort(fault);
            barrier(*line, "save");
          },
          [&](Comm& main) {
            if (main.rank() == who) return;  // the others wait for it in vain
            barrier(main, "train");
          });
      EXPECT_EQ(back.fault, fault);
      if (comm.rank() != who) {
        EXPECT_EQ(front.fault, fault);
      }
      EXPECT_EQ(capture([&] { barrier(comm, "later"); }).fault, fault);
      EXPECT_EQ(capture([&] { barrier(*comm.line(), "later"); }).fault, fault);
    });
  }
}

TEST_P(CommConformance, ARankThatIsGoneIsNamedOnTheLineThatNeedsIt) {
  for (const int who : {0, 2}) {
    Comms comms = ranks(3);
    run_as_ranks(comms, [&](Comm& comm) {
      const auto r = static_cast<size_t>(comm.rank());
      std::unique_ptr<Comm> line = comm.line();
      barrier(*line, "together");
      if (comm.rank() == who) {
        line.reset();
        comms[r].reset();
        return;
      }
      const Fault fault = capture([&] { barrier(*line, "without one"); }).fault;
      EXPECT_EQ(fault.code, Code::peer_lost);
      EXPECT_THAT(fault.what, testing::HasSubstr("rank " + std::to_string(who)));
      EXPECT_EQ(capture([&] { barrier(comm, "without one"); }).fault.code, Code::peer_lost);
    });
  }
}

TEST_P(CommConformance, ALineThatIsClosedEarlyFailsThoseWhoWaitOnItAndNothingElse) {
  for (const int who : {0, 2}) {
    Comms comms = ranks(3);
    const auto outcomes = run_as_ranks(comms, [&](Comm& comm) {
      std::unique_ptr<Comm> closed = comm.line();
      std::unique_ptr<Comm> other = comm.line();
      barrier(*closed, "together");
      if (comm.rank() == who) {
        closed.reset();
      } else {
        const Fault fault = capture([&] { barrier(*closed, "without one"); }).fault;
        EXPECT_EQ(fault.code, Code::peer_lost);
        EXPECT_THAT(fault.what, testing::HasSubstr("rank " + std::to_string(who)));
        EXPECT_TRUE(closed->failure());
      }
      EXPECT_FALSE(other->failure());
      barrier(*other, "well");
      barrier(comm, "well");
      barrier(*comm.line(), "well");
    });
    for (const auto& outcome : outcomes) EXPECT_TRUE(outcome) << describe(outcome.fault);
  }
}

TEST_P(CommConformance, ALineThatNobodyNeedsIsClosedInAnyOrderAndLinesMayComeAndGo) {
  Comms comms = ranks(3);
  const auto outcomes = run_as_ranks(comms, [](Comm& comm) {
    for (int k = 0; k < 300; ++k) {
      const auto line = comm.line();
      if (k % 3 == 0) barrier(*line, "used");
    }
    barrier(comm, "well");
  });
  for (const auto& outcome : outcomes) EXPECT_TRUE(outcome) << describe(outcome.fault);
}

TEST_P(CommConformance, TooManyLinesAreAnErrorForWhoOpensThem) {
  Comms comms = ranks(2);
  const auto outcomes = run_as_ranks(comms, [](Comm& comm) {
    std::vector<std::unique_ptr<Comm>> lines;
    const Fault fault = capture([&] {
                          for (int k = 0; k < 1000; ++k) lines.push_back(comm.line());
                        }).fault;
    EXPECT_EQ(fault.code, Code::limit);
    EXPECT_EQ(lines.size(), 63U);
    barrier(*lines.back(), "well");
    lines.clear();
    barrier(comm, "all closed");
    barrier(*comm.line(), "well");
  });
  for (const auto& outcome : outcomes) EXPECT_TRUE(outcome) << describe(outcome.fault);
}

TEST_P(CommConformance, ProgressOnALineIsOfThatLine) {
  for (const int who : {0, 1}) {
    // A rank whose main thread is stuck is late, however busy its background is.
    Comms stuck = ranks(3, soon);
    std::atomic<int> told = 0;
    run_as_ranks(stuck, [&](Comm& comm) {
      if (comm.rank() != who) {
        const Fault fault = capture([&] { barrier(comm, "train"); }).fault;
        EXPECT_EQ(fault.code, Code::timeout);
        EXPECT_THAT(fault.what, testing::HasSubstr("rank " + std::to_string(who)));
        ++told;
        return;
      }
      const auto line = comm.line();
      while (told < 2) {
        line->note("write");
        std::this_thread::sleep_for(Milliseconds(10));
      }
    });
    // A rank whose main thread computes is not late on the line where its background makes progress.
    Comms busy = ranks(3, std::chrono::seconds(2));
    const auto outcomes = run_as_ranks(busy, [&](Comm& comm) {
      const auto line = comm.line();
      for (int k = 0; comm.rank() == who && k < 50; ++k) {
        line->note("write, block " + std::to_string(k));
        std::this_thread::sleep_for(Milliseconds(50));
      }
      barrier(*line, "gather proofs");
    });
    for (const auto& outcome : outcomes) EXPECT_TRUE(outcome) << describe(outcome.fault);
  }
}

}  // namespace tessera
