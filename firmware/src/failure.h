// What is thrown inside the library; the C boundary (api.cpp) turns it into a status.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "pkecho.h"

namespace pkecho {

// A status and one line for people: what, which file, and what to do.
class Failure : public std::exception {
public:
    Failure(pkecho_status status, std::string message)
        : status_(status), message_(std::move(message)) {}

    pkecho_status status() const noexcept { return status_; }
    const char *what() const noexcept override { return message_.c_str(); }

private:
    pkecho_status status_;
    std::string message_;
};

}  // namespace pkecho
