#include "boost/asio/post.hpp"
#include "boost/asio/thread_pool.hpp"
#include "server/http/routes.h"

namespace modu::http {

struct BodyThreads::Impl {
  boost::asio::thread_pool pool{1};
};

BodyThreads::BodyThreads() : impl_(std::make_unique<Impl>()) {}
BodyThreads::~BodyThreads() { Stop(); }

void BodyThreads::Run(std::function<void()> work) {
  boost::asio::post(impl_->pool, std::move(work));
}

void BodyThreads::Stop() {
  impl_->pool.stop();
  impl_->pool.join();
}

}  // namespace modu::http
