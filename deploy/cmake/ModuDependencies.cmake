# Third-party libraries from the distribution. Debian 12, Debian 13 and Ubuntu 24.04 differ in versions and in what
# they ship as CMake packages, so each is found by what it offers; each ends as one modu_dep_* interface target.
find_package(PkgConfig REQUIRED)

function(modu_dep name)
  add_library(modu_dep_${name} INTERFACE)
  target_link_libraries(modu_dep_${name} INTERFACE ${ARGN})
endfunction()

find_package(absl REQUIRED CONFIG)
modu_dep(absl absl::status absl::statusor absl::strings absl::str_format)

find_package(nlohmann_json 3.10 REQUIRED CONFIG)
modu_dep(json nlohmann_json::nlohmann_json)

if(MODU_SERVER)
  # Protobuf by its CMake module: Debian 12 ships no config package for it, and gRPC's config wants the module's names.
  find_package(Protobuf REQUIRED)
  pkg_check_modules(GRPC REQUIRED IMPORTED_TARGET grpc++)
  set_target_properties(PkgConfig::GRPC PROPERTIES INTERFACE_COMPILE_OPTIONS "")  # -DNOMINMAX: Catch, precompiled, refuses it
  find_program(GRPC_CPP_PLUGIN grpc_cpp_plugin REQUIRED)
  find_library(GRPC_REFLECTION_LIBRARY grpc++_reflection REQUIRED)
  modu_dep(grpc PkgConfig::GRPC ${GRPC_REFLECTION_LIBRARY} protobuf::libprotobuf)

  find_package(Boost 1.81 REQUIRED)  # Beast and Asio are headers only
  find_package(OpenSSL REQUIRED)
  modu_dep(boost Boost::headers OpenSSL::SSL OpenSSL::Crypto)
  target_compile_definitions(modu_dep_boost INTERFACE BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_DISABLE_BOOST_COROUTINE)
  modu_dep(openssl OpenSSL::SSL OpenSSL::Crypto)

  find_package(prometheus-cpp REQUIRED CONFIG)
  modu_dep(prometheus prometheus-cpp::core)

  find_package(spdlog REQUIRED CONFIG)
  modu_dep(spdlog spdlog::spdlog)

  find_package(yaml-cpp REQUIRED CONFIG)
  if(TARGET yaml-cpp::yaml-cpp)
    modu_dep(yaml yaml-cpp::yaml-cpp)
  else()
    modu_dep(yaml yaml-cpp)
  endif()

  pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
  modu_dep(pcre2 PkgConfig::PCRE2)
  find_library(UTF8PROC_LIBRARY utf8proc REQUIRED)
  modu_dep(utf8proc ${UTF8PROC_LIBRARY})
endif()
