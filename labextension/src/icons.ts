import { LabIcon } from "@jupyterlab/ui-components";

const svg = (path: string) =>
  `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24"><path class="jp-icon3" fill="#616161" d="${path}"/></svg>`;

export const agentIcon = new LabIcon({
  name: "agent-magics:agent",
  svgstr: svg(
    "M12 2a2 2 0 0 1 1 3.7V7h4a3 3 0 0 1 3 3v7a3 3 0 0 1-3 3H7a3 3 0 0 1-3-3v-7a3 3 0 0 1 3-3h4V5.7A2 2 0 0 1 12 2zM7 9a1 1 0 0 0-1 1v7a1 1 0 0 0 1 1h10a1 1 0 0 0 1-1v-7a1 1 0 0 0-1-1zm2 2.500a1.500 1.500 0 1 1 0 3 1.500 1.500 0 0 1 0-3zm6 0a1.500 1.500 0 1 1 0 3 1.500 1.500 0 0 1 0-3z",
  ),
});

export const abortIcon = new LabIcon({
  name: "agent-magics:abort",
  svgstr: svg("M8 3h8l5 5v8l-5 5H8l-5-5V8zm.8 2L5 8.800v6.400L8.800 19h6.400l3.800-3.800V8.800L15.200 5zM9 9h6v6H9z"),
});
