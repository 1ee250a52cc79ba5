# Completes the tree that CPack is about to make a Debian package of: what lies outside of the prefix, and what only a
# package has. CPack runs this (CPACK_PRE_BUILD_SCRIPTS) with CPACK_* set.
set(root ${CPACK_TEMPORARY_INSTALL_DIRECTORY})
set(source ${CPACK_TWINPOOL_SOURCE})
set(documents ${root}/usr/share/doc/twinpool)

# The configuration belongs to /etc, whatever the prefix is.
if(EXISTS ${root}/usr/etc)
	file(MAKE_DIRECTORY ${root}/etc)
	file(RENAME ${root}/usr/etc/twinpool ${root}/etc/twinpool)
	file(REMOVE_RECURSE ${root}/usr/etc)
endif()
file(MAKE_DIRECTORY ${root}/etc/default ${root}/lib/systemd/system ${documents})
file(COPY ${source}/config/twinpool.service ${source}/config/twinpool.socket DESTINATION ${root}/lib/systemd/system)
configure_file(${source}/packaging/debian/default ${root}/etc/default/twinpool COPYONLY)
file(COPY ${source}/packaging/debian/copyright DESTINATION ${documents})

set(VERSION ${CPACK_PACKAGE_VERSION})
set(MAINTAINER ${CPACK_TWINPOOL_MAIL})
if(DEFINED ENV{SOURCE_DATE_EPOCH})
	string(TIMESTAMP DATE "%a, %d %b %Y %H:%M:%S +0000" UTC)
else()
	set(DATE "Thu, 01 Jan 1970 00:00:00 +0000")
endif()
configure_file(${source}/packaging/debian/changelog.in ${documents}/changelog @ONLY)
execute_process(COMMAND gzip --best --no-name --force ${documents}/changelog COMMAND_ERROR_IS_FATAL ANY)

# As Debian has them, whatever the umask of who builds: files 0644, directories and what is executed 0755.
file(GLOB_RECURSE files LIST_DIRECTORIES true ${root}/*)
foreach(file ${files})
	if(IS_SYMLINK ${file})
		continue()
	endif()
	set(mode OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
	if(IS_DIRECTORY ${file} OR file MATCHES "/bin/[^/]*$")
		list(APPEND mode OWNER_EXECUTE GROUP_EXECUTE WORLD_EXECUTE)
	endif()
	file(CHMOD ${file} PERMISSIONS ${mode})
endforeach()
