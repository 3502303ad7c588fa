#include "tessera/base/error.h"

#include <cerrno>
#include <cstring>

namespace tessera {
namespace {

std::string message(const Fault& fault) {
  std::string text = describe(fault);
  if (!fault.hint.empty()) text += "\nhint: " + fault.hint;
  return text;
}

// LibTorch appends a C++ backtrace to what(); the first paragraph is what a person can use.
std::string first_paragraph(std::string text) {
  const size_t end = text.find("\nException raised from");
  if (end != std::string::npos) text.resize(end);
  return text;
}

}  // namespace

const char* name(Code code) {
  switch (code) {
    case Code::invalid_argument: return "invalid_argument";
    case Code::not_found: return "not_found";
    case Code::exists: return "exists";
    case Code::mismatch: return "mismatch";
    case Code::corrupt: return "corrupt";
    case Code::unsupported: return "unsupported";
    case Code::limit: return "limit";
    case Code::io: return "io";
    case Code::no_space: return "no_space";
    case Code::no_memory: return "no_memory";
    case Code::timeout: return "timeout";
    case Code::peer_lost: return "peer_lost";
    case Code::aborted: return "aborted";
    case Code::internal: return "internal";
  }
  return "unknown";
}

const char* name(Phase phase) {
  switch (phase) {
    case Phase::none: return "none";
    case Phase::start: return "start";
    case Phase::describe: return "describe";
    case Phase::plan: return "plan";
    case Phase::write: return "write";
    case Phase::publish: return "publish";
    case Phase::open: return "open";
    case Phase::check: return "check";
    case Phase::read: return "read";
    case Phase::apply: return "apply";
    case Phase::train: return "train";
  }
  return "unknown";
}

std::string describe(const Fault& fault) {
  std::string who;
  const auto add = [&](const std::string& part) { who += (who.empty() ? "" : ", ") + part; };
  if (fault.rank >= 0) add("rank " + std::to_string(fault.rank));
  if (fault.phase != Phase::none) add(name(fault.phase));
  if (!fault.file.empty()) {
    std::string where = fault.file;
    if (fault.offset_bytes >= 0) where += " at byte " + std::to_string(fault.offset_bytes);
    add(where);
  }
  std::string text = who.empty() ? fault.what : who + ": " + fault.what;
  if (fault.os_errno != 0) {
    const char* symbol = strerrorname_np(fault.os_errno);
    text += std::string(": ") + std::strerror(fault.os_errno) + " (" + (symbol ? symbol : "errno " + std::to_string(fault.os_errno)) + ")";
  }
  if (fault.same_on > 0) text += "; same on " + std::to_string(fault.same_on) + (fault.same_on == 1 ? " other rank" : " other ranks");
  return text;
}

int exit_code(Code code) {
  switch (code) {
    case Code::mismatch:
    case Code::corrupt: return 1;
    case Code::invalid_argument: return 2;
    case Code::timeout:
    case Code::peer_lost:
    case Code::aborted: return 4;
    default: return 3;
  }
}

Error::Error(Fault fault) : std::runtime_error(message(fault)), fault_(std::move(fault)) {}

Fault os_fault(int os_errno, std::string what, std::string file, int64_t offset_bytes) {
  Code code = Code::io;
  std::string hint;
  switch (os_errno) {
    case ENOENT:
    case ENOTDIR: code = Code::not_found; break;
    case EEXIST:
    case ENOTEMPTY: code = Code::exists; break;
    case ENOSPC:
    case EDQUOT:
      code = Code::no_space;
      hint = "free some space or choose another directory";
      break;
    case EACCES:
    case EPERM: hint = "check the owner and the mode of the directory"; break;
    case EROFS: hint = "the file system is mounted read-only"; break;
    default: break;
  }
  return {.code = code,
          .what = std::move(what),
          .file = std::move(file),
          .offset_bytes = offset_bytes,
          .os_errno = os_errno,
          .hint = std::move(hint)};
}

Fault fault_of(std::exception_ptr failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    return error.fault();
  } catch (const std::bad_alloc&) {
    return {.code = Code::no_memory, .what = "out of memory"};
  } catch (const std::exception& error) {
    return {.code = Code::internal, .what = first_paragraph(error.what())};
  } catch (...) {
    return {.code = Code::internal, .what = "an exception of unknown type"};
  }
}

}  // namespace tessera
