import { LabIcon } from '@jupyterlab/ui-components';

/** A sealed envelope over a pair of bars: the two arms, and the test set between them and a verdict. */
export const iteraIcon = new LabIcon({
  name: 'itera-nb:itera',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <g class="jp-icon3" fill="#616161">
    <path d="M3 3h18v11h-2V7.3l-7 4.9-7-4.9V12H3zm3.2 2L12 9.1 17.8 5z"/>
    <path d="M3 14h4v7H3zM10 17h4v4h-4zM17 16h4v5h-4z"/>
  </g>
</svg>`
});
