/* Before anything is drawn: the theme that was chosen here, if one was. */
"use strict";
(() => {
	const theme = localStorage.getItem("twinpool.theme");
	if (theme === "light" || theme === "dark")
		document.documentElement.dataset.theme = theme;
})();
