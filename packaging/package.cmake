# The Debian package: "cpack" in a build directory, or scripts/package.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME twinpool)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "twinpool maintainers <maintainers@twinpool.invalid>")
set(CPACK_TWINPOOL_MAIL maintainers@twinpool.invalid)
set(CPACK_TWINPOOL_SOURCE ${PROJECT_SOURCE_DIR})
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "runs jobs, sent over HTTP, on processes and threads")
set(CPACK_PACKAGE_DESCRIPTION
"twinpool takes jobs as JSON over HTTP, runs each on a worker process or on a worker thread, by choice, and answers with the
result and with what the job really cost. This package has the service, and the header that plug-ins are written against.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/packaging/stage.cmake)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
# Libraries are found by dpkg-shlibdeps; adduser is the maintainer scripts'.
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS adduser)
set(CPACK_DEBIAN_PACKAGE_SUGGESTS bubblewrap)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(DEBIAN_FILES ${PROJECT_SOURCE_DIR}/packaging/debian)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
	${DEBIAN_FILES}/conffiles ${DEBIAN_FILES}/postinst ${DEBIAN_FILES}/postrm ${DEBIAN_FILES}/prerm)
include(CPack)
